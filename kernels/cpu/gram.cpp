#include "gram.h"

#include <omp.h>

#include <cmath>
#include <limits>

#include "kan_fast/activation.h"
#include "kan_fast/basis/bspline.h"

namespace kan_fast {
namespace {

// The active functions at one x: their number is order + 1, the first has the index `start`.
template <class T>
struct Active {
  int start;
  T value[kMaxOrder + 1];

  Active(const TableView<T>& table, int64_t feature, T x, int derivative) : start(0) {
    const int order = table.order;
    const int cell = locate(x, table.knots + feature * table.num_knots, table.num_knots);
    if (cell < 0 || derivative > order) {
      for (int m = 0; m <= order; ++m) value[m] = T(0);
      return;
    }
    start = window_start(cell, order, table.num_basis);
    const T s = (x - table.left(feature)[cell]) * table.inv_width(feature)[cell];
    const T* coef = table.coef(feature, derivative) + cell;
    for (int m = 0; m <= order; ++m) {
      const T* row = coef + int64_t(m) * (order + 1) * table.cell_stride;
      T sum = row[(order - derivative) * table.cell_stride];
      for (int p = order - derivative - 1; p >= 0; --p) sum = sum * s + row[p * table.cell_stride];
      value[m] = sum;
    }
  }
};

template <class T>
void gram_of_input(const GramArgs<T>& args, int64_t input) {
  const Activation kind = static_cast<Activation>(args.activation);
  const int64_t columns = args.b.num_basis + 1;
  const int64_t size = (args.a.num_basis + 1) * columns;
  const int64_t feature_a = args.a.feature(input), feature_b = args.b.feature(input);
  double* gram = args.gram != nullptr ? args.gram + input * size : nullptr;
  const double* weight = args.cotangent != nullptr ? args.cotangent + input * size : nullptr;
  bool poisoned = false;
  for (int64_t n = 0; gram != nullptr && n < size; ++n) gram[n] = 0.0;
  for (int64_t r = 0; r < args.rows; ++r) {
    const T x = args.x[r * args.x_row_stride + input * args.x_col_stride];
    const Active<T> a(args.a, feature_a, x, args.derivative_a);
    const Active<T> b(args.b, feature_b, x, args.derivative_b);
    const double base_a = activation_derivative(kind, x, args.derivative_a);
    const double base_b = activation_derivative(kind, x, args.derivative_b);
    // value of function m of a, the base last
    double sum = x - x;
    poisoned |= sum != 0.0;
    for (int m = 0; m <= args.a.order + 1; ++m) {
      const bool last_a = m > args.a.order;
      const double value = last_a ? base_a : a.value[m];
      const int64_t row = (last_a ? args.a.num_basis : a.start + m) * columns;
      if (gram != nullptr) {
        for (int n = 0; n <= args.b.order; ++n) gram[row + b.start + n] += value * b.value[n];
        gram[row + columns - 1] += value * base_b;
      } else {
        double inner = weight[row + columns - 1] * base_b;
        for (int n = 0; n <= args.b.order; ++n) inner += weight[row + b.start + n] * b.value[n];
        sum += value * inner;
      }
    }
    if (args.z != nullptr) args.z[r * args.in_features + input] = static_cast<T>(sum);
  }
  if (poisoned && gram != nullptr)
    for (int64_t n = 0; n < size; ++n) gram[n] = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

template <class T>
void gram(const GramArgs<T>& args) {
  constexpr double kPairCost = 100;
  const int threads = useful_threads(double(args.rows) * args.in_features * kPairCost);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t input = 0; input < args.in_features; ++input) gram_of_input(args, input);
}

template void gram(const GramArgs<float>&);
template void gram(const GramArgs<double>&);

}  // namespace kan_fast
