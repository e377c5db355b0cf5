// The basis with one row a lane: cells, coefficients and weights are looked up in registers.
//
// For grids whose cells fit two vectors; nothing is sorted and nothing branches.
#pragma once

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

// Where a vector of rows lies, and with it everything that does not depend on the derivative.
template <class T, int kBytes, int kWindow, int kTables>
struct LaneBasis {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  using I = typename X::I;

  I cell;   // a cell, of any number where `inside` is false
  I start;  // first active function
  I inside;
  V s;     // place in the cell, 0..1
  V zero;  // zero, or NaN where x is not finite

  KAN_INLINE LaneBasis(const TableView<T>& table, int64_t feature, T inv_step, V x) {
    const T* knots = table.knots + feature * table.num_knots;
    const int last = table.num_cells - 1;
    zero = x - x;
    inside = (x >= knots[0]) & (x < knots[table.num_knots - 1]);
    // lanes outside take the first knot along, so that every index is one of the table
    x = inside ? x : X::set(knots[0]);
    const Lookup<T, kBytes, kTables> left(table.left(feature));
    if (table.uniform) {
      // a guess that is off by one cell at most, put right on the stored knots
      cell = __builtin_convertvector((x - knots[0]) * inv_step, I);
      cell = cell > last ? I{} + last : cell;
      cell += x < left[cell];
      cell -= x >= Lookup<T, kBytes, kTables>(table.right(feature))[cell];
    } else {
      cell = I{} - 1;
      for (int j = 0; j <= last; ++j) cell -= x >= knots[j];
    }
    s = (x - left[cell]) * Lookup<T, kBytes, kTables>(table.inv_width(feature))[cell];
    const int last_start = table.num_basis - kWindow;
    start = cell - (kWindow - 1);
    start = start < 0 ? I{} : start;
    start = start > last_start ? I{} + last_start : start;
  }

  // The d-th derivative of the active functions.
  KAN_INLINE void values(const TableView<T>& table, int64_t feature, int derivative,
                         V* value) const {
    const int degree = kWindow - 1 - derivative;
    const T* coef = degree < 0 ? nullptr : table.coef(feature, derivative);
    if (degree == 3)
      polynomials<3>(coef, table.cell_stride, value);
    else if (degree == 2)
      polynomials<2>(coef, table.cell_stride, value);
    else if (degree == 1)
      polynomials<1>(coef, table.cell_stride, value);
    else if (degree == 0)
      polynomials<0>(coef, table.cell_stride, value);
    else
      for (int m = 0; m < kWindow; ++m) value[m] = zero;
  }

 private:
  template <int kDegree>
  KAN_INLINE void polynomials(const T* coef, int64_t stride, V* value) const {
    for (int m = 0; m < kWindow; ++m) {
      const T* row = coef + m * kWindow * stride;
      V sum = Lookup<T, kBytes, kTables>(row + kDegree * stride)[cell];
      for (int p = kDegree - 1; p >= 0; --p)
        sum = sum * s + Lookup<T, kBytes, kTables>(row + p * stride)[cell];
      value[m] = inside ? sum : zero;
    }
  }
};

template <class T>
inline T inverse_step(const TableView<T>& table, int64_t feature) {
  const T* knots = table.knots + feature * table.num_knots;
  return T(table.num_cells) / (knots[table.num_cells] - knots[0]);
}

KAN_NAMESPACE_END
