// The active functions at one input, straight from the knots: no table, so a kernel is one launch.
#pragma once

#include "kan_fast/activation.h"
#include "kan_fast/grid.h"

KAN_NAMESPACE_BEGIN

constexpr int kNoWindow = -1;

// a / b to two units in the last place, in a fifth of the instructions; exactly rounded on the host
// and for double.
template <class T>
KAN_HD_INLINE T quotient(T a, T b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) {
    float inverse;
    asm("rcp.approx.f32 %0, %1;" : "=f"(inverse) : "f"(b));
    return a * inverse;
  }
#endif
  return a / b;
}

// `locate` with a guess that is right on uniform grids: threads wait for two knots, not for a
// search.
template <class T>
KAN_HD_INLINE int locate_by_guess(T x, const T* knots, int num_knots) {
  const T first = knots[0], last = knots[num_knots - 1];
  if (!(x >= first && x < last)) return -1;
  const int guess = static_cast<int>(quotient(x - first, last - first) * (num_knots - 1));
  const int cell = guess > num_knots - 2 ? num_knots - 2 : guess;
  if (knots[cell] <= x && x < knots[cell + 1]) return cell;
  return locate(x, knots, num_knots);
}

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
  const int cell = locate_by_guess(x, knots, num_knots);
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
      // chosen after the quotients, for no branch
      const T in_width = quotient(value[a], width);
      // the last function has no right neighbour
      const T in_next = quotient(value[a < kOrder ? a + 1 : a], next_width);
      const T left = width > T(0) ? in_width : T(0);
      const T right = a < kOrder && next_width > T(0) ? in_next : T(0);
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
