// The basis with one row a lane: cells, coefficients and weights are looked up in registers.
//
// For grids whose cells fit two vectors; nothing is sorted and nothing branches.
#pragma once

#include "cell_basis.h"
#include "kan_fast/args.h"
#include "lookup.h"

KAN_NAMESPACE_BEGIN

// Vectors that a table of so many numbers takes.
template <class T, int kBytes>
inline int lookup_tables(int numbers) {
  return numbers <= lookup_lanes<T, kBytes>() ? 1 : 2;
}

// Whether the basis of this grid can be looked up.
template <class T, int kBytes>
inline bool has_lane_basis(const TableView<T>& table) {
  return table.num_cells <= 2 * lookup_lanes<T, kBytes>() && table.order >= 1 && table.order <= 3;
}

// What every vector of rows reads of one row of knots.
template <class T, int kBytes, int kWindow, int kTables>
struct LaneGrid {
  static constexpr int kNumbers = kTables * lookup_lanes<T, kBytes>();
  // known here, so that a table is at a constant distance from the first
  static constexpr int kStride = kNumbers > kCellUnit ? kNumbers : kCellUnit;
  const T* knots;
  const T* left;
  T first, last;              // knots
  T inner_first, inner_last;  // of the cells that have all their functions
  T inv_step;                 // of equal cells
  int last_cell, last_start;
  bool uniform;

  KAN_INLINE LaneGrid(const TableView<T>& table, int64_t feature)
      : knots(table.knots + feature * table.num_knots),
        left(table.left(feature)),
        first(knots[0]),
        last(knots[table.num_cells]),
        inner_first(knots[kWindow - 1]),
        inner_last(knots[table.num_basis]),
        inv_step(T(table.num_cells) / (last - first)),
        last_cell(table.num_cells - 1),
        last_start(table.num_basis - kWindow),
        uniform(table.uniform) {}

  const T* right() const { return left + kStride; }
  const T* inv_width() const { return left + 2 * kStride; }
  const T* coef(int derivative) const {
    return left + (3 + derivative * kWindow * kWindow) * kStride;
  }
};

// Where a vector of rows lies, and with it everything that does not depend on the derivative.
template <class T, int kBytes, int kWindow, int kTables>
struct LaneBasis {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  using I = typename X::I;
  using Grid = LaneGrid<T, kBytes, kWindow, kTables>;
  using Table = Lookup<T, kBytes, kTables>;

  I cell;   // of lanes outside the grid, one in the middle
  I start;  // first active function
  V u, w;   // distances from the ends of the cell in units of its width
  V x;
  bool interior;  // whether every lane is in a cell that has all its functions
  const Grid& grid;

  KAN_INLINE LaneBasis(const Grid& grid, V x) : x(x), grid(grid) {
    // a branch that goes one way as a rule, and saves clamps, masks and the lookups of zeros
    interior = X::all((x >= grid.inner_first) & (x < grid.inner_last));
    if (!interior) x = inside() ? x : X::set(grid.inner_first);
    const Table left(grid.left), right(grid.right());
    if (grid.uniform) {
      // a guess that is off by one cell at most, put right on the stored knots
      cell = __builtin_convertvector((x - grid.first) * grid.inv_step, I);
      if (!interior) cell = cell > grid.last_cell ? I{} + grid.last_cell : cell;
      cell += x < left[cell];
      cell -= x >= right[cell];
    } else {
      cell = I{} - 1;
      for (int j = 0; j <= grid.last_cell; ++j) cell -= x >= grid.knots[j];
    }
    const V inv_width = Table(grid.inv_width())[cell];
    u = (x - left[cell]) * inv_width;
    w = (right[cell] - x) * inv_width;
    start = cell - (kWindow - 1);
    if (interior) return;
    start = start < 0 ? I{} : start;
    start = start > grid.last_start ? I{} + grid.last_start : start;
  }

  KAN_INLINE I inside() const { return (x >= grid.first) & (x < grid.last); }
  // zero, or NaN where x is not finite
  KAN_INLINE V zero() const { return x - x; }
  // the cell, or one more than the last where there is none
  KAN_INLINE I cell_or_outside() const {
    return interior ? cell : (inside() ? cell : I{} + (grid.last_cell + 1));
  }

  // The d-th derivative of the active functions.
  KAN_INLINE void values(int derivative, V* value) const {
    const T* from = grid.coef(derivative);
    const auto coef = [&](int m, int power) KAN_INLINE_LAMBDA {
      return Table(from + (m * kWindow + power) * Grid::kStride)[cell];
    };
    if (derivative >= kWindow) {
#pragma GCC unroll 9
      for (int m = 0; m < kWindow; ++m) value[m] = zero();
      return;
    }
    with_degree<kWindow>(kWindow - 1 - derivative, [&](auto degree) KAN_INLINE_LAMBDA {
      if constexpr (is_usual<kWindow, decltype(degree)>)
        if (interior) {
          window_values<kWindow, true>(degree, u, w, coef, value);
          return;
        }
      window_values<kWindow, false>(degree, u, w, coef, value);
      const I there = inside();
#pragma GCC unroll 9
      for (int m = 0; m < kWindow; ++m) value[m] = there ? value[m] : zero();
    });
  }
};

KAN_NAMESPACE_END
