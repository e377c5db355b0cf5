// How the rows of a block are staged (stage.h).
#pragma once

#include "cell_basis.h"
#include "kan_fast/basis/bspline.h"
#include "lanes.h"
#include "sort.h"
#include "stage.h"
#include "vector_activation.h"

KAN_NAMESPACE_BEGIN

// A vector of values of window + 1 functions to where row_of says for each lane.
//
// Args:
//   value: [step_of(window)]; what lies beyond the functions is stored, and not read by anyone
template <class T, int kBytes, class RowOf>
KAN_INLINE void store_rows(int window, const typename Vec<T, kBytes>::V* value,
                           const RowOf& row_of) {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
#pragma GCC unroll 4
  for (int from = 0; from <= window; from += 4) {
    V quad[4];
    for (int m = 0; m < 4; ++m) quad[m] = value[from + m];
    if constexpr (X::kLanes >= 4) {
      using Y = typename Quad<T>::X;
      transpose_squares<T, kBytes>(quad);
#pragma GCC unroll 4
      for (int l = 0; l < X::kLanes; l += 4)
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) {
          typename Y::V row;
          std::memcpy(&row, reinterpret_cast<const T*>(&quad[n]) + l, sizeof(row));
          Y::store(row_of(l + n) + from, row);
        }
    } else {
      for (int l = 0; l < X::kLanes; ++l)
        for (int m = 0; m < 4; ++m) row_of(l)[from + m] = quad[m][l];
    }
  }
}

// Cells of all rows of one input; num_cells stands for "outside". Rows from num_rows up to the next
// multiple of 16 get -1.
template <class T, int kBytes>
inline CellRange locate_rows(const TableView<T>& table, int64_t feature, const T* x, int num_rows,
                             int* cell) {
  using X = Vec<T, kBytes>;
  using I = typename X::I;
  const T* knots = table.knots + feature * table.num_knots;
  const int num_knots = table.num_knots;
  const int outside = num_knots - 1;
  typename X::V poison = {};
  for (int r = 0; r < num_rows; r += X::kLanes) {
    const typename X::V xs = X::load(x + r);
    poison += xs - xs;
  }
  // counting knots below x takes one comparison a knot and vector, whatever their spacing
  constexpr int kMostKnotsToCount = 48;
  if (num_knots <= kMostKnotsToCount) {
    for (int r = 0; r < num_rows; r += X::kLanes) {
      const typename X::V xs = X::load(x + r);
      I count = {};
      for (int j = 0; j < num_knots; ++j) count -= xs >= knots[j];
      count -= 1;
      // -1 and num_knots - 1 are outside
      count = count < 0 ? I{} + outside : count;
      if constexpr (sizeof(T) == 4)
        std::memcpy(cell + r, &count, sizeof(count));
      else
        for (int l = 0; l < X::kLanes; ++l) cell[r + l] = static_cast<int>(count[l]);
    }
  } else {
    const T inv_step = T(num_knots - 1) / (knots[num_knots - 1] - knots[0]);
    for (int r = 0; r < num_rows; ++r) {
      const int c = table.uniform ? locate_uniform(x[r], knots, num_knots, inv_step)
                                  : locate(x[r], knots, num_knots);
      cell[r] = c < 0 ? outside : c;
    }
  }
  int first = outside, last = 0;
  for (int r = 0; r < num_rows; ++r) {
    first = cell[r] < first ? cell[r] : first;
    last = cell[r] > last ? cell[r] : last;
  }
  for (int r = num_rows; r % 16 != 0; ++r) cell[r] = -1;
  return {first, last, X::sum(poison) != T(0)};
}

// Values of the d-th derivative of the active functions and the base, times v, bucket by bucket.
template <class T, int kBytes, int kWindow>
inline void stage_values(const LayerArgs<T>& layer, int64_t feature, const Stage<T>& stage,
                         const int* bucket_cell, const T* x_sorted, const T* v_sorted,
                         int derivative, T* base, T* values) {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  const TableView<T>& table = layer.table;
  const int window = window_of<kWindow>(table.order), order = window - 1;
  const int step = step_of(window);
  activations<T, kBytes>(static_cast<Activation>(layer.activation), x_sorted, stage.num_rows,
                         derivative, base, 0, nullptr);
  for (int n = 0; n < stage.num_buckets; ++n) {
    const Bucket& bucket = stage.buckets[n];
    const int c = bucket_cell[n];
    const auto rows = [&](const auto& functions) KAN_INLINE_LAMBDA {
      // a tail vector runs into the next bucket, which then overwrites it
      V value[step_of(kWindow)] = {};
      for (int p = bucket.begin; p < bucket.end; p += X::kLanes) {
        functions(X::load(x_sorted + p), value);
        value[window] = X::load(base + p);
        if (v_sorted != nullptr) {
          const V v = X::load(v_sorted + p);
#pragma GCC unroll 9
          for (int m = 0; m <= window; ++m) value[m] *= v;
        }
        const int* row = stage.permutation + p;
        store_rows<T, kBytes>(window, value, [&](int l) KAN_INLINE_LAMBDA {
          return values + int64_t(row[l]) * step;
        });
      }
    };
    if (c == table.num_cells || derivative > order) {
      // zero, or NaN where x is not finite
      rows([](V x, V* value) {
#pragma GCC unroll 9
        for (int m = 0; m < kWindow; ++m) value[m] = x - x;
      });
      continue;
    }
    const T* from = table.coef(feature, derivative) + c;
    T coef[kWindow * kWindow] = {};
#pragma GCC unroll 9
    for (int m = 0; m < window * window; ++m) coef[m] = from[m * table.cell_stride];
    const T left = table.left(feature)[c];
    const T right = table.right(feature)[c];
    const T inv_width = table.inv_width(feature)[c];
    if constexpr (kWindow == kAnyWindow) {
      rows([&](V x, V* value) KAN_INLINE_LAMBDA {
        any_window_values(
            window, order - derivative, (x - left) * inv_width, (right - x) * inv_width,
            [&](int m, int p) KAN_INLINE_LAMBDA { return coef[m * window + p]; }, value);
      });
    } else {
      const bool interior = is_interior(c, order, table.num_basis);
      with_degree<kWindow>(order - derivative, [&](auto degree) KAN_INLINE_LAMBDA {
        constexpr bool kHasInterior = is_usual<kWindow, decltype(degree)>;
        const auto in_cell = [&](auto is_whole) KAN_INLINE_LAMBDA {
          rows([&](V x, V* value) KAN_INLINE_LAMBDA {
            window_values<kWindow, is_whole()>(
                degree, (x - left) * inv_width, (right - x) * inv_width,
                [&](int m, int p) KAN_INLINE_LAMBDA { return coef[m * kWindow + p]; }, value);
          });
        };
        if (kHasInterior && interior)
          in_cell(std::bool_constant<kHasInterior>());
        else
          in_cell(std::false_type());
      });
    }
  }
}

// Cells of all rows, and the values of both derivatives, by lookups.
template <class T, int kBytes, int kWindow, int kTables>
inline CellRange lane_values(const LayerArgs<T>& layer, int64_t feature, const T* x, const T* v,
                             int derivative, int derivative_in, const StageScratch<T>& scratch,
                             const Stage<T>& stage) {
  using X = Vec<T, kBytes>;
  using V = typename X::V;
  using I = typename X::I;
  constexpr int kStep = step_of(kWindow);
  const LaneGrid<T, kBytes, kWindow, kTables> grid(layer.table, feature);
  const int outside = layer.table.num_cells;
  int* const cell = scratch.cell;
  T* const values = stage.values;
  T* const values_in = stage.values_in;
  T* const base = scratch.base;
  T* const base_in = scratch.base_in;
  activations<T, kBytes>(static_cast<Activation>(layer.activation), x, stage.num_rows, derivative,
                         values != nullptr ? base : nullptr, derivative_in,
                         values_in != nullptr ? base_in : nullptr);
  // values for v, then those for the contraction over outputs
  const int first_pass = values != nullptr ? 0 : 1, end_pass = values_in != nullptr ? 2 : 1;
  V poison = {};
  I first = I{} + outside, last = {};
  for (int r = 0; r < stage.num_rows; r += X::kLanes) {
    const LaneBasis<T, kBytes, kWindow, kTables> basis(grid, X::load(x + r));
    poison += basis.zero();
    const I at = basis.cell_or_outside();
    first = at < first ? at : first;
    last = at > last ? at : last;
    if constexpr (sizeof(T) == 4)
      std::memcpy(cell + r, &at, sizeof(at));
    else
      for (int l = 0; l < X::kLanes; ++l) cell[r + l] = static_cast<int>(at[l]);
    // not unrolled: the code of one pass serves both
#pragma GCC unroll 1
    for (int n = first_pass; n < end_pass; ++n) {
      V value[kStep] = {};
      basis.values(n == 0 ? derivative : derivative_in, value);
      value[kWindow] = X::load((n == 0 ? base : base_in) + r);
      if (n == 0 && v != nullptr) {
        const V factor = X::load(v + r);
#pragma GCC unroll 9
        for (int m = 0; m <= kWindow; ++m) value[m] *= factor;
      }
      T* const to = (n == 0 ? values : values_in) + int64_t(r) * kStep;
      store_rows<T, kBytes>(kWindow, value,
                            [&](int l) KAN_INLINE_LAMBDA { return to + l * kStep; });
    }
  }
  for (int r = stage.num_rows; r % 16 != 0; ++r) cell[r] = -1;
  CellRange range{outside, 0, X::sum(poison) != T(0)};
  for (int l = 0; l < X::kLanes; ++l) {
    range.first = first[l] < range.first ? static_cast<int>(first[l]) : range.first;
    range.last = last[l] > range.last ? static_cast<int>(last[l]) : range.last;
  }
  return range;
}

template <class T, int kWindow>
void stage_input(const LayerArgs<T>& layer, int64_t input, const T* x, const T* v, int derivative,
                 int derivative_in, const StageScratch<T>& scratch, Stage<T>& stage) {
  constexpr int kBytes = kWidest;
  const TableView<T>& table = layer.table;
  const int64_t feature = table.feature(input);
  const int num_rows = stage.num_rows;
  const int num_cells = table.num_cells;
  bool looked_up = false;
  CellRange range{};
  if constexpr (lookup_lanes<T, kBytes>() > 0 && kWindow != kAnyWindow)
    if (has_lane_basis<T, kBytes>(table)) {
      looked_up = true;
      range = lookup_tables<T, kBytes>(num_cells) == 1
                  ? lane_values<T, kBytes, kWindow, 1>(layer, feature, x, v, derivative,
                                                       derivative_in, scratch, stage)
                  : lane_values<T, kBytes, kWindow, 2>(layer, feature, x, v, derivative,
                                                       derivative_in, scratch, stage);
    }
  if (!looked_up) range = locate_rows<T, kBytes>(table, feature, x, num_rows, scratch.cell);
  int* offset = scratch.offset;
  sort_rows(range, scratch.cell, num_rows, offset, stage.permutation, scratch.spare);
  stage.num_buckets = 0;
  for (int c = range.first; c <= range.last; ++c) {
    const int begin = offset[c - range.first];
    const int end = offset[c - range.first + 1];
    if (end == begin) continue;
    const int start = c == num_cells ? 0 : window_start(c, table.order, table.num_basis);
    scratch.bucket_cell[stage.num_buckets] = c;
    stage.buckets[stage.num_buckets++] = Bucket{begin, end, start};
  }
  stage.poisoned = range.poisoned;
  if (looked_up) return;
  for (int p = 0; p < num_rows; ++p) scratch.x_sorted[p] = x[stage.permutation[p]];
  // a tail vector may write one row more
  for (int p = num_rows; p < num_rows + Vec<T, kBytes>::kLanes; ++p)
    stage.permutation[p] = num_rows;
  const T* v_sorted = nullptr;
  if (v != nullptr) {
    for (int p = 0; p < num_rows; ++p) scratch.v_sorted[p] = v[stage.permutation[p]];
    v_sorted = scratch.v_sorted;
  }
  if (stage.values != nullptr)
    stage_values<T, kBytes, kWindow>(layer, feature, stage, scratch.bucket_cell, scratch.x_sorted,
                                     v_sorted, derivative, scratch.base, stage.values);
  // the contraction over outputs is not multiplied by v
  if (stage.values_in != nullptr)
    stage_values<T, kBytes, kWindow>(layer, feature, stage, scratch.bucket_cell, scratch.x_sorted,
                                     nullptr, derivative_in, scratch.base_in, stage.values_in);
}

KAN_NAMESPACE_END
