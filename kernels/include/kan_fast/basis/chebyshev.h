// Chebyshev polynomials of the first kind and their derivatives (docs/math.md, eq. 12):
//
//   T_0 = 1,  T_1 = t,  T_{n+1} = 2 t T_n - T_{n-1}
//   T_{n+1}^(d) = 2 t T_n^(d) + 2 d T_n^(d-1) - T_{n-1}^(d)
//
// A template over the number type: a scalar and a SIMD vector run the same lines.
#pragma once

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// Calls take(n, [T_n(t), T_n'(t) .. T_n^(d)(t)]) for 0 <= n < num_basis.
template <int kDerivative, class V, class Take>
KAN_HD void chebyshev(V t, int num_basis, const Take& take) {
  // derivatives 0..d of T_{n-1} and T_n; t - t keeps NaN a NaN
  V before[kDerivative + 1], at[kDerivative + 1];
  for (int d = 0; d <= kDerivative; ++d) before[d] = at[d] = t - t;
  before[0] = t - t + 1;
  at[0] = t;
  if (kDerivative > 0) at[kDerivative > 0 ? 1 : 0] = t - t + 1;
  if (num_basis > 0) take(0, before);
  if (num_basis > 1) take(1, at);
  for (int n = 2; n < num_basis; ++n) {
    for (int d = kDerivative; d >= 0; --d) {
      V next = 2 * t * at[d] - before[d];
      if (d > 0) next += static_cast<float>(2 * d) * at[d > 0 ? d - 1 : 0];
      before[d] = at[d];
      at[d] = next;
    }
    take(n, at);
  }
}

KAN_NAMESPACE_END
