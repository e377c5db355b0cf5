// The Gram matrix of one input: rows are sorted by cell, so that inside a bucket the active
// functions and their polynomials are fixed, and lanes are rows.
#pragma once

#include <algorithm>
#include <limits>

#include "cell_basis.h"
#include "gram.h"
#include "kan_fast/basis/bspline.h"
#include "simd.h"
#include "vector_activation.h"

KAN_NAMESPACE_BEGIN

template <class T, int kWindow>
struct GramRows {
  using X = Vec<double, kWidest>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  static constexpr int kBlock = 1024;
  static constexpr int kFunctions = kWindow + 1;  // at most; the base last

  // The active functions of one cell of one grid, as polynomials with the same coefficients for
  // every lane.
  struct Cell {
    const TableView<T>* table;
    int derivative;
    int start;
    double left, right, inv_width;
    double coef[kWindow][kWindow];  // [function, power]

    void enter(int64_t feature, int cell) {
      start = window_start(std::max(cell, 0), table->order, table->num_basis);
      left = right = inv_width = 0;
      std::fill(&coef[0][0], &coef[0][0] + kWindow * kWindow, 0.0);
      if (cell < 0 || cell >= table->num_cells || derivative > table->order) return;
      start = window_start(cell, table->order, table->num_basis);
      left = table->left(feature)[cell];
      right = table->right(feature)[cell];
      inv_width = table->inv_width(feature)[cell];
      const T* from = table->coef(feature, derivative) + cell;
      const int window = window_of<kWindow>(table->order);
      for (int m = 0; m < window; ++m)
        for (int p = 0; p + derivative < window; ++p)
          coef[m][p] = from[(m * window + p) * table->cell_stride];
    }

    KAN_INLINE void values(V x, V* value) const {
      const int window = window_of<kWindow>(table->order);
      const int degree = std::max(window - 1 - derivative, 0);
      const V u = (x - left) * inv_width, w = (right - x) * inv_width;
      const auto of_cell = [&](int m, int p) KAN_INLINE_LAMBDA { return coef[m][p]; };
      if constexpr (kWindow == kAnyWindow)
        any_window_values(window, degree, u, w, of_cell, value);
      else
        with_degree<kWindow>(degree, [&](auto degree) KAN_INLINE_LAMBDA {
          window_values<kWindow, false>(degree, u, w, of_cell, value);
        });
    }
  };

  const GramArgs<T>& args;
  const int64_t input;
  const int64_t feature_a = args.a.feature(input), feature_b = args.b.feature(input);
  const bool one_grid = args.a.by_cell == args.b.by_cell && args.derivative_a == args.derivative_b;
  Cell a{&args.a, args.derivative_a, 0, 0, 0, 0, {}};
  Cell b{&args.b, args.derivative_b, 0, 0, 0, 0, {}};
  const int64_t columns = args.b.num_basis + 1;
  double* const gram =
      args.gram == nullptr ? nullptr : args.gram + input * (args.a.num_basis + 1) * columns;
  const double* const cotangent = args.cotangent == nullptr
                                      ? nullptr
                                      : args.cotangent + input * (args.a.num_basis + 1) * columns;
  bool poisoned = false;
  alignas(64) double x[kBlock], sorted[kBlock + kLanes], base_a[kBlock + kLanes],
      base_b[kBlock + kLanes];
  alignas(64) int64_t cell_a[kBlock], cell_b[kBlock];
  int permutation[kBlock];

  GramRows(const GramArgs<T>& args, int64_t input) : args(args), input(input) {}

  static void run(const GramArgs<T>& args, int64_t input, int* offset) {
    GramRows rows(args, input);
    const int64_t size = (args.a.num_basis + 1) * rows.columns;
    if (rows.gram != nullptr) std::fill(rows.gram, rows.gram + size, 0.0);
    for (int64_t begin = 0; begin < args.rows; begin += kBlock)
      rows.block(begin, static_cast<int>(std::min<int64_t>(kBlock, args.rows - begin)), offset);
    if (rows.poisoned && rows.gram != nullptr)
      std::fill(rows.gram, rows.gram + size, std::numeric_limits<double>::quiet_NaN());
  }

 private:
  void block(int64_t begin, int count, int* offset) {
    const T* from = args.x + begin * args.x_row_stride + input * args.x_col_stride;
    bool finite = true;
    for (int r = 0; r < count; ++r) {
      const T at = from[r * args.x_row_stride];
      finite &= at - at == T(0);
      x[r] = at;
    }
    if (!finite) silence(count);
    const int padded = (count + kLanes - 1) / kLanes * kLanes;
    for (int r = count; r < padded; ++r) x[r] = 0;
    locate_rows(args.a, feature_a, padded, cell_a);
    const bool same_knots = args.a.by_cell == args.b.by_cell;
    if (!same_knots) {
      locate_rows(args.b, feature_b, padded, cell_b);
      // both cells grow with x, so that their sum tells the pair
      for (int r = 0; r < count; ++r) cell_b[r] += cell_a[r];
    }
    const int64_t* key = same_knots ? cell_a : cell_b;
    const int keys = args.a.num_knots + (same_knots ? 0 : args.b.num_knots) + 1;
    sort(key, keys, count, offset);
    base(count);
    for (int bucket = 0; bucket < keys; ++bucket) {
      const int first = offset[bucket], last = offset[bucket + 1];
      if (first == last) continue;
      const int at = permutation[first];
      const int in_a = static_cast<int>(cell_a[at]) - 1;
      a.enter(feature_a, in_a);
      b.enter(feature_b, same_knots ? in_a : static_cast<int>(cell_b[at] - cell_a[at]) - 1);
      if (gram == nullptr)
        rows_of_bucket(begin, first, last);
      else if (one_grid)
        sums_of_bucket<true>(first, last);
      else
        sums_of_bucket<false>(first, last);
    }
    if (gram == nullptr && !finite) poison(begin, count);
  }

  // Rows that are not finite take no part in sums; they are put right at the end.
  void silence(int count) {
    poisoned = true;
    for (int r = 0; r < count; ++r)
      if (x[r] - x[r] != 0) x[r] = 0;
  }

  void poison(int64_t begin, int count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      const T at = args.x[r * args.x_row_stride + input * args.x_col_stride];
      if (at - at != T(0)) args.z[r * args.in_features + input] = at - at;
    }
  }

  // The number of knots at or below every x: one more than its cell.
  void locate_rows(const TableView<T>& table, int64_t feature, int padded, int64_t* found) const {
    const T* knots = table.knots + feature * table.num_knots;
    constexpr int kFewKnots = 64;
    if (table.num_knots > kFewKnots) {
      for (int r = 0; r < padded; ++r)
        found[r] = std::upper_bound(knots, knots + table.num_knots, static_cast<T>(x[r])) - knots;
      return;
    }
    for (int r = 0; r < padded; r += kLanes) {
      const V at = X::load(x + r);
      typename X::I below{};
      for (int j = 0; j < table.num_knots; ++j) below -= at >= double(knots[j]);
      std::memcpy(found + r, &below, sizeof(below));
    }
  }

  void sort(const int64_t* key, int keys, int count, int* offset) {
    std::fill(offset, offset + keys + 2, 0);
    for (int r = 0; r < count; ++r) ++offset[key[r] + 2];
    for (int n = 2; n <= keys + 1; ++n) offset[n] += offset[n - 1];
    for (int r = 0; r < count; ++r) {
      const int at = offset[key[r] + 1]++;
      permutation[at] = r;
      sorted[at] = x[r];
    }
    for (int p = count; p < count + kLanes && p < kBlock + kLanes; ++p) sorted[p] = 0;
  }

  void base(int count) {
    const Activation kind = static_cast<Activation>(args.activation);
    for (int p = 0; p < count; p += kLanes) {
      if (kind == Activation::kZero) {
        X::store(base_a + p, V{});
        X::store(base_b + p, V{});
        continue;
      }
      const VectorActivation<double, kWidest> activation(kind, X::load(sorted + p));
      const V at_a = activation.derivative(args.derivative_a);
      X::store(base_a + p, at_a);
      X::store(base_b + p, args.derivative_b == args.derivative_a
                               ? at_a
                               : activation.derivative(args.derivative_b));
    }
    X::store(base_a + count, V{});
    X::store(base_b + count, V{});
  }

  // a number that the compiler knows where it can: loops over functions are unrolled
  KAN_INLINE int window() const { return window_of<kWindow>(args.a.order); }

  // Functions of a vector of rows from place p on; those from `last` on count nothing.
  KAN_INLINE void functions(int p, int last, V* of_a, V* of_b) const {
    const V at = X::load(sorted + p);
    a.values(at, of_a);
    of_a[window()] = X::load(base_a + p);
    if (one_grid) {
      for (int m = 0; m <= window(); ++m) of_b[m] = of_a[m];
    } else {
      b.values(at, of_b);
      of_b[window()] = X::load(base_b + p);
    }
    if (last - p >= kLanes) return;
    V valid{};
    for (int l = 0; l < last - p; ++l) valid[l] = 1;
    for (int m = 0; m <= window(); ++m) of_a[m] *= valid;
  }

  int64_t row_of(int m) const { return m == window() ? args.a.num_basis : a.start + m; }
  int64_t column_of(int n) const { return n == window() ? args.b.num_basis : b.start + n; }

  template <bool kSymmetric>
  void sums_of_bucket(int first, int last) {
    // of pairs of functions side by side in registers, and of vectors of rows that wait for them
    constexpr int kPairs = 4, kVectors = 8;
    V sum[kFunctions][kFunctions + kPairs] = {};
    if constexpr (kWindow == kAnyWindow) {
      V of_a[kVectors][kFunctions], of_b[kVectors][kFunctions + kPairs] = {};
      for (int begin = first; begin < last; begin += kVectors * kLanes) {
        int count = 0;
        for (int p = begin; p < last && count < kVectors; p += kLanes, ++count)
          functions(p, last, of_a[count], of_b[count]);
        for (int m = 0; m <= window(); ++m)
          for (int n = kSymmetric ? m : 0; n <= window(); n += kPairs) {
            V part[kPairs] = {};
            for (int q = 0; q < count; ++q)
#pragma GCC unroll 4
              for (int k = 0; k < kPairs; ++k) part[k] += of_a[q][m] * of_b[q][n + k];
            for (int k = 0; k < kPairs; ++k) sum[m][n + k] += part[k];
          }
      }
    } else {
      V of_a[kFunctions], of_b[kFunctions];
      for (int p = first; p < last; p += kLanes) {
        functions(p, last, of_a, of_b);
#pragma GCC unroll 9
        for (int m = 0; m < kFunctions; ++m)
#pragma GCC unroll 9
          for (int n = kSymmetric ? m : 0; n < kFunctions; ++n) sum[m][n] += of_a[m] * of_b[n];
      }
    }
    for (int m = 0; m <= window(); ++m)
      for (int n = kSymmetric ? m : 0; n <= window(); ++n) {
        const double total = X::sum(sum[m][n]);
        gram[row_of(m) * columns + column_of(n)] += total;
        if (kSymmetric && n != m) gram[row_of(n) * columns + column_of(m)] += total;
      }
  }

  void rows_of_bucket(int64_t begin, int first, int last) {
    const int base_at = window();
    double weight[kFunctions][kFunctions];
    for (int m = 0; m <= base_at; ++m)
      for (int n = 0; n <= base_at; ++n)
        weight[m][n] = cotangent[row_of(m) * columns + column_of(n)];
    V of_a[kFunctions], of_b[kFunctions];
    for (int p = first; p < last; p += kLanes) {
      functions(p, last, of_a, of_b);
      V sum{};
#pragma GCC unroll 9
      for (int m = 0; m <= base_at; ++m) {
        V inner = of_b[0] * weight[m][0];
#pragma GCC unroll 9
        for (int n = 1; n <= base_at; ++n) inner += of_b[n] * weight[m][n];
        sum += of_a[m] * inner;
      }
      for (int l = 0; l < kLanes && p + l < last; ++l)
        args.z[(begin + permutation[p + l]) * args.in_features + input] = static_cast<T>(sum[l]);
    }
  }
};

KAN_NAMESPACE_END
