// Gaussian radial basis functions and their derivatives (docs/math.md, eq. 11):
//
//   b_g(x) = exp(-s^2),   s = (x - u_g) / w
//   b_g^(d)(x) = (-1 / w)^d H_d(s) b_g(x),   H_0 = 1,  H_1 = 2 s,  H_{n+1} = 2 s H_n - 2 n H_{n-1}
//
// A template over the number type: a scalar and a SIMD vector run the same lines.
#pragma once

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// Function g of all; `exp` takes and returns what x is.
template <class V, class T, class Exp>
KAN_HD V gaussian_rbf(V x, T center, T inv_width, int derivative, const Exp& exp) {
  const V s = (x - center) * inv_width;
  V value = exp(-s * s);
  if (derivative == 0) return value;
  V previous = s - s + T(1);
  V hermite = 2 * s;
  for (int n = 1; n < derivative; ++n) {
    const V following = 2 * s * hermite - T(2 * n) * previous;
    previous = hermite;
    hermite = following;
  }
  for (int n = 0; n < derivative; ++n) value = value * -inv_width;
  return hermite * value;
}

KAN_NAMESPACE_END
