// The active functions of a cell: sums of products of the distances of x from the cell's ends.
#pragma once

#include <type_traits>

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// u^p w^(degree-p), 0 <= p <= degree, of scalars or vectors. Degree is an integral_constant, for
// which the loops are unrolled, or int.
template <class V, class Degree>
KAN_INLINE void cell_products(V u, V w, Degree degree, V* product) {
  product[0] = V{} + 1;
  if constexpr (std::is_same_v<Degree, int>) {
    for (int d = 1; d <= degree; ++d) {
      product[d] = product[d - 1] * u;
      for (int p = 0; p < d; ++p) product[p] *= w;
    }
  } else {
#pragma GCC unroll 8
    for (int d = 1; d <= Degree::value; ++d) {
      product[d] = d == 1 ? u : product[d - 1] * u;
#pragma GCC unroll 8
      for (int p = 0; p < d; ++p) product[p] = d == 1 ? w : product[p] * w;
    }
  }
}

// Args:
//   degree:    as above, of the functions or of their derivative
//   u, w:      (x - left edge) / width and (right edge - x) / width of the cell
//   coef:      coef(m, p) is the coefficient of u^p w^(degree-p) in function m, a number or vector
//   value:     [kWindow]
//   kInterior: the cell has all its functions, so that the first is a power of w, the last one of u
template <int kWindow, bool kInterior, class Degree, class V, class Coef>
KAN_INLINE void window_values(Degree degree, V u, V w, const Coef& coef, V* value) {
  V product[kWindow];
  cell_products(u, w, degree, product);
#pragma GCC unroll 8
  for (int m = 0; m < kWindow; ++m) {
    const int first = kInterior && m == kWindow - 1 ? int(degree) : 0;
    const int last = kInterior && m == 0 ? 0 : int(degree);
    V sum = product[first] * coef(m, first);
    if constexpr (std::is_same_v<Degree, int>) {
      for (int p = first + 1; p <= last; ++p) sum += product[p] * coef(m, p);
    } else {
#pragma GCC unroll 8
      for (int p = first + 1; p <= last; ++p) sum += product[p] * coef(m, p);
    }
    value[m] = sum;
  }
}

// Calls body(degree), with an integral_constant for values and first derivatives, which trainings
// consist of, and with int for the others: a loop for each would double the size of the kernels.
template <int kWindow, class Body>
KAN_INLINE void with_degree(int degree, const Body& body) {
  constexpr int kOfSlope = kWindow == 1 ? 0 : kWindow - 2;
  if (degree == kWindow - 1)
    body(std::integral_constant<int, kWindow - 1>());
  else if (degree == kOfSlope)
    body(std::integral_constant<int, kOfSlope>());
  else
    body(degree);
}

KAN_NAMESPACE_END
