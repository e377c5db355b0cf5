// The active functions at one input, straight from the knots: no table, so a kernel is one launch.
#pragma once

#include "kan_fast/activation.h"
#include "kan_fast/grid.h"

KAN_NAMESPACE_BEGIN

constexpr int kNoWindow = -1;

// d-th derivative of the functions whose window `x` is in, by Cox and de Boor's recurrence
// (docs/math.md, eq. 2) up to degree order - d and by differences from there on (eq. 3).
//
// Args:
//   knots: [num_knots], non-decreasing
//   value: [kOrder + 1]
// Returns:
//   the first function of the window; outside the grid all values are zero. kNoWindow where x is
//   not finite: then all are NaN, and so is every other function of the grid.
template <int kOrder, class T>
KAN_HD_INLINE int basis_window(T x, const T* knots, int num_knots, int derivative, T* value) {
#pragma unroll
  for (int m = 0; m <= kOrder; ++m) value[m] = x - x;
  if (x - x != T(0)) return kNoWindow;
  const int cell = locate(x, knots, num_knots);
  if (cell < 0 || derivative > kOrder) return 0;
  // t[a] is knot cell - order + a; those that do not exist belong to no function
  T t[2 * kOrder + 2];
#pragma unroll
  for (int a = 0; a < 2 * kOrder + 2; ++a) {
    const int j = cell - kOrder + a;
    t[a] = knots[j < 0 ? 0 : (j > num_knots - 1 ? num_knots - 1 : j)];
  }
  value[kOrder] = T(1);
#pragma unroll
  for (int m = 1; m <= kOrder; ++m) {
    const bool differs = m > kOrder - derivative;
#pragma unroll
    for (int a = 0; a <= kOrder; ++a) {
      // bounds that are constants, so that arrays become registers
      if (a < kOrder - m) continue;
      const int j = cell - kOrder + a;
      const T width = t[a + m] - t[a], next_width = t[a + m + 1] - t[a + 1];
      const T left = width > T(0) ? value[a] / width : T(0);
      // the last function has no right neighbour
      const T right =
          a < kOrder && next_width > T(0) ? value[a < kOrder ? a + 1 : a] / next_width : T(0);
      const T at = differs ? m * (left - right) : (x - t[a]) * left + (t[a + m + 1] - x) * right;
      value[a] = j < 0 || j + m + 1 > num_knots - 1 ? T(0) : at;
    }
  }
  const int start = window_start(cell, kOrder, num_knots - 1 - kOrder);
  // at the ends of the grid, function by function: constant indices keep the values in registers
  for (int shift = start - (cell - kOrder); shift > 0; --shift) {
#pragma unroll
    for (int m = 0; m < kOrder; ++m) value[m] = value[m + 1];
    value[kOrder] = T(0);
  }
  for (int shift = start - (cell - kOrder); shift < 0; ++shift) {
#pragma unroll
    for (int m = kOrder; m > 0; --m) value[m] = value[m - 1];
    value[0] = T(0);
  }
  return start;
}

KAN_NAMESPACE_END
