// Knots and cells: THE boundary convention of the package.
#pragma once

#include <cstdint>

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

// Cell of `x` on non-decreasing knots: the c with knots[c] <= x < knots[c + 1], else -1.
//
// Cells are half-open, so the last knot belongs to no cell, exactly as in pykan and efficient-kan;
// of repeated knots the last one opens the cell. NaN compares false everywhere and gives -1.
template <class T>
KAN_HD int locate(T x, const T* knots /* [num_knots] */, int num_knots) {
  int low = 0;
  int length = num_knots;
  // upper bound: the number of knots that are <= x
  while (length > 0) {
    const int half = length / 2;
    if (knots[low + half] <= x) {
      low += half + 1;
      length -= half + 1;
    } else {
      length = half;
    }
  }
  return low == num_knots ? -1 : low - 1;
}

// The same cell on nearly uniform knots: an arithmetic guess, put right on the stored knots.
template <class T>
KAN_HD int locate_uniform(T x, const T* knots /* [num_knots] */, int num_knots, T inv_step) {
  // written so that NaN falls through to -1
  if (!(x >= knots[0] && x < knots[num_knots - 1])) return -1;
  int cell = static_cast<int>((x - knots[0]) * inv_step);
  cell = cell > num_knots - 2 ? num_knots - 2 : cell;
  while (x < knots[cell]) --cell;
  while (x >= knots[cell + 1]) ++cell;
  return cell;
}

// First of the `order + 1` basis functions stored for a cell. Near the ends of the extended grid
// fewer functions are active; the window is shifted inside and the missing ones read as zero.
KAN_HD int window_start(int cell, int order, int num_basis) {
  const int start = cell - order;
  const int last = num_basis - 1 - order;
  return start < 0 ? 0 : (start > last ? last : start);
}

KAN_NAMESPACE_END
