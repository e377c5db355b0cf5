// Gaussian radial basis functions and their derivatives (docs/math.md, eq. 11):
//
//   b_g(x) = exp(-s^2),   s = (x - u_g) / w
//   b_g^(d)(x) = (-1 / w)^d H_d(s) b_g(x),   H_0 = 1,  H_1 = 2 s,  H_{n+1} = 2 s H_n - 2 n H_{n-1}
//
// A template over the number type: a scalar and a SIMD vector run the same lines.
#pragma once

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// (-1 / w)^d H_d(s): what turns exp(-s^2) into its d-th derivative.
template <class V, class T>
KAN_HD V gaussian_rbf_factor(V s, T inv_width, int derivative) {
  V previous = s - s;
  V hermite = previous + T(1);
  for (int n = 0; n < derivative; ++n) {
    const V following = 2 * s * hermite - T(2 * n) * previous;
    previous = hermite * -inv_width;
    hermite = following * -inv_width;
  }
  return hermite;
}

KAN_NAMESPACE_END
