// The basis of a row as the structured-sparse operand of mma.sp.
//
// Of num_basis columns only a window of order + 1 neighbours is not zero. Column p is paired with
// column p + half, half = ceil(num_basis / 2): neighbours closer than half never meet in a pair, so
// that of every pair at most one is not zero, which is what the tensor cores' 1:2 form (TF32) asks,
// and two pairs make the 2:4 form (bfloat16, float16). Nothing is lost where half > order; a
// shorter basis is padded with columns of zeros.
//
// The weights' columns are permuted once into pairs; values and selectors follow from the window.
// A pair is a pair whatever its neighbours: those of consecutive inputs follow each other without
// gaps.
#pragma once

#include "kan_fast/grid.h"

KAN_NAMESPACE_BEGIN

// Pairs of an input, `half` above.
KAN_HD int sparse_pairs(int num_basis, int order) {
  const int half = (num_basis + 1) / 2;
  return half > order ? half : order + 1;
}

// The column that member 0 or 1 of a pair stands for; -1 where it is padding.
KAN_HD int sparse_column(int pair, int member, int num_basis, int pairs) {
  const int column = pair + member * pairs;
  return column < num_basis ? column : -1;
}

// What a pair keeps of a window.
struct SparseChoice {
  int member;  // 0 or 1
  int value;   // of the window's values; -1 where neither column is in the window
};

KAN_HD SparseChoice sparse_choice(int pair, int start, int order, int pairs) {
  const int first = pair - start, second = first + pairs;
  if (first >= 0 && first <= order) return {0, first};
  if (second >= 0 && second <= order) return {1, second};
  return {0, -1};
}

// Four bits of mma.sp's metadata, which name the two 16-bit quarters of a group of four that are
// kept, in increasing order: the lower two bits the first of them.
//
// TF32: a pair is such a group, its members are two quarters each.
KAN_HD unsigned sparse_selector_tf32(int member) { return member == 0 ? 0x4u : 0xEu; }
// bfloat16 and float16: two pairs are a group.
KAN_HD unsigned sparse_selector_half(int first_member, int second_member) {
  return static_cast<unsigned>(first_member | (2 + second_member) << 2);
}

KAN_NAMESPACE_END
