// The active functions of a cell: sums of products of the distances of x from the cell's ends.
#pragma once

#include <type_traits>

#include "kan_fast/basis/bspline.h"
#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// The active functions of a cell are order + 1. For orders 1 to 3, which nearly all layers have,
// the compiler knows how many; the other orders share kernels with room for the most there are.
constexpr int kAnyWindow = kMaxOrder + 1;

// body(window) with 2, 3, 4 or kAnyWindow as a constant.
template <class Body>
KAN_INLINE auto for_window(int order, const Body& body) {
  switch (order) {
    case 1:
      return body(std::integral_constant<int, 2>());
    case 2:
      return body(std::integral_constant<int, 3>());
    case 3:
      return body(std::integral_constant<int, 4>());
    default:
      return body(std::integral_constant<int, kAnyWindow>());
  }
}

template <int kWindow>
KAN_INLINE int window_of(int order) {
  return kWindow == kAnyWindow ? order + 1 : kWindow;
}

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

// The same for any number of functions, by powers: fewer products than a table of all of them takes
// where loops are not unrolled. `value` and `coef` have kAnyWindow functions.
template <class V, class Coef>
KAN_INLINE void any_window_values(int window, int degree, V u, V w, const Coef& coef, V* value) {
  V product[kAnyWindow];
  product[0] = V{} + 1;
  for (int p = 1; p <= degree; ++p) product[p] = product[p - 1] * u;
  V power = w;
  for (int p = degree - 1; p >= 0; --p) {
    product[p] *= power;
    power *= w;
  }
  // two at a time read a product once; one too many at an odd number
  for (int m = 0; m < window; m += 2) {
    V a = product[0] * coef(m, 0), b = product[0] * coef(m + 1, 0);
    for (int p = 1; p <= degree; ++p) {
      a += product[p] * coef(m, p);
      b += product[p] * coef(m + 1, p);
    }
    value[m] = a;
    value[m + 1] = b;
  }
}

// Calls body(degree) with the degree as a constant, for windows that the compiler knows.
template <int kWindow, class Body>
KAN_INLINE void with_degree(int degree, const Body& body) {
  static_assert(kWindow >= 2 && kWindow <= 4);
  if (degree == kWindow - 1)
    body(std::integral_constant<int, kWindow - 1>());
  else if (degree == kWindow - 2)
    body(std::integral_constant<int, kWindow - 2>());
  else if (kWindow == 4 && degree == 1)
    body(std::integral_constant<int, 1>());
  else
    body(std::integral_constant<int, 0>());
}

// Whether a degree is that of values or first derivatives, which trainings consist of: only for
// those a cell that has all its functions gets a loop of its own.
template <int kWindow, class Degree>
constexpr bool is_usual = Degree::value >= kWindow - 2;

KAN_NAMESPACE_END
