// The active functions of a cell: sums of products of the distances of x from the cell's ends.
#pragma once

#include <type_traits>

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// u^p w^(kDegree-p), 0 <= p <= kDegree, of scalars or vectors.
template <int kDegree, class V>
KAN_INLINE void cell_products(V u, V w, V* product) {
  if constexpr (kDegree == 0) {
    product[0] = V{} + 1;
  } else if constexpr (kDegree == 1) {
    product[0] = w;
    product[1] = u;
  } else {
    cell_products<kDegree - 1>(u, w, product);
    product[kDegree] = product[kDegree - 1] * u;
#pragma GCC unroll 8
    for (int p = 0; p < kDegree; ++p) product[p] *= w;
  }
}

// Args:
//   u, w:      (x - left edge) / width and (right edge - x) / width of the cell
//   coef:      coef(m, p) is the coefficient of u^p w^(kDegree-p) in function m, a number or vector
//   value:     [kWindow]
//   kInterior: the cell has all its functions, so that the first is a power of w, the last one of u
template <int kWindow, int kDegree, bool kInterior, class V, class Coef>
KAN_INLINE void window_values(V u, V w, const Coef& coef, V* value) {
  V product[kDegree + 1];
  cell_products<kDegree>(u, w, product);
#pragma GCC unroll 8
  for (int m = 0; m < kWindow; ++m) {
    const int first = kInterior && m == kWindow - 1 ? kDegree : 0;
    const int last = kInterior && m == 0 ? 0 : kDegree;
    V sum = product[first] * coef(m, first);
#pragma GCC unroll 8
    for (int p = first + 1; p <= last; ++p) sum += product[p] * coef(m, p);
    value[m] = sum;
  }
}

// Calls body(std::integral_constant<int, degree>) for 0 <= degree <= kMost.
template <int kMost, class Body>
KAN_INLINE void with_degree(int degree, const Body& body) {
  if constexpr (kMost >= 0) {
    if (degree == kMost)
      body(std::integral_constant<int, kMost>());
    else
      with_degree<kMost - 1>(degree, body);
  }
}

KAN_NAMESPACE_END
