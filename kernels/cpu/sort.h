// Rows sorted by cell.
#pragma once

#include "simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

KAN_NAMESPACE_BEGIN

// What locating a block of rows finds out on the way.
struct CellRange {
  int first, last;  // no row has a cell outside of these
  bool poisoned;    // a row is NaN or infinite
};

#if defined(__AVX512F__)
// One stable pass of a radix sort over entries (cell - first) << 16 | row: appends, digit by digit,
// the entries whose digit matches. No dependence through memory, unlike counting.
inline void radix_pass(const int* from, int count, int digit_mask, int digit_unit, int num_digits,
                       int* to) {
  const __m512i mask = _mm512_set1_epi32(digit_mask);
  int appended = 0;
  for (int digit = 0; digit < num_digits; ++digit) {
    const __m512i wanted = _mm512_set1_epi32(digit * digit_unit);
    for (int r = 0; r < count; r += 16) {
      const __m512i entry = _mm512_loadu_si512(from + r);
      const __mmask16 match = _mm512_cmpeq_epi32_mask(_mm512_and_si512(entry, mask), wanted);
      // writes 16 entries, of which the matching ones count
      _mm512_storeu_si512(to + appended, _mm512_maskz_compress_epi32(match, entry));
      appended += __builtin_popcount(match);
    }
  }
}

// Sorts up to 32 cells by one digit or two; `cell` is overwritten. `spare` is [capacity].
inline void sort_few_cells(const CellRange& range, int* cell, int num_rows, int* offset,
                           int* permutation, int* spare) {
  const int num_cells = range.last - range.first + 1;
  using X = Vec<float, 64>;
  constexpr X::I kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // rows beyond num_rows have the cell -1: a digit that no pass asks for
  for (int r = 0; r < num_rows; r += 16) {
    X::I entry;
    std::memcpy(&entry, cell + r, sizeof(entry));
    entry = ((entry - range.first) << 16) | (kLane + r);
    std::memcpy(cell + r, &entry, sizeof(entry));
  }
  constexpr int kOneDigit = 8;
  // the entry before the first is of no cell
  int* sorted = spare + 16;
  sorted[-1] = -1;
  if (num_cells <= kOneDigit) {
    radix_pass(cell, num_rows, ~0xffff, 1 << 16, num_cells, sorted);
  } else {
    // the low digit of cell -1 - first is not distinct: only whole entries go on
    int* low = permutation;
    radix_pass(cell, num_rows, 3 << 16, 1 << 16, 4, low);
    const int entries = (num_rows + 15) / 16 * 16;
    radix_pass(low, entries, ~0x3ffff, 1 << 18, (num_cells + 3) / 4, sorted);
  }
  int next = 0;
  for (int p = 0; p < num_rows; p += 16) {
    const __m512i entry = _mm512_loadu_si512(sorted + p);
    const __m512i before = _mm512_loadu_si512(sorted + p - 1);
    _mm512_storeu_si512(permutation + p, _mm512_and_si512(entry, _mm512_set1_epi32(0xffff)));
    // a bucket begins where the cell is not that of the entry before
    unsigned begins =
        _mm512_cmpge_epu32_mask(_mm512_xor_si512(entry, before), _mm512_set1_epi32(1 << 16));
    if (num_rows - p < 16) begins &= (1u << (num_rows - p)) - 1;
    for (; begins != 0; begins &= begins - 1) {
      const int at = p + __builtin_ctz(begins);
      for (const int c = sorted[at] >> 16; next <= c; ++next) offset[next] = at;
    }
  }
  for (; next <= num_cells; ++next) offset[next] = num_rows;
}
#elif defined(__AVX2__)
// For each mask of eight lanes the numbers of its lanes, in order.
struct LanesOfMask {
  uint8_t lanes[256][8];
  constexpr LanesOfMask() : lanes() {
    for (int mask = 0; mask < 256; ++mask) {
      int count = 0;
      for (int l = 0; l < 8; ++l)
        if (mask & (1 << l)) lanes[mask][count++] = static_cast<uint8_t>(l);
    }
  }
};
inline constexpr LanesOfMask kLanesOfMask;

// Appends, cell by cell, the rows that are in it: ten instructions for eight rows and a cell, where
// counting takes some twenty for each row, and waits for memory.
inline void sort_few_cells(const CellRange& range, const int* cell, int num_rows, int* offset,
                           int* permutation) {
  int* to = permutation;
  for (int c = range.first; c <= range.last; ++c) {
    offset[c - range.first] = static_cast<int>(to - permutation);
    const __m256i wanted = _mm256_set1_epi32(c);
    __m256i row = _mm256_setzero_si256();
    for (int r = 0; r < num_rows; r += 8) {
      const __m256i cells = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cell + r));
      const unsigned mask =
          _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(cells, wanted)));
      const __m256i lanes = _mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLanesOfMask.lanes[mask])));
      // writes eight rows, of which those of the cell count
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi32(row, lanes));
      to += static_cast<unsigned>(__builtin_popcount(mask));
      row = _mm256_add_epi32(row, _mm256_set1_epi32(8));
    }
  }
  offset[range.last - range.first + 1] = num_rows;
}
#endif

// Stable sort of the rows by cell: `permutation` and the boundaries `offset` [last - first + 2].
// `cell` is [capacity], overwritten; what lies between num_rows and the next multiple of 16 is -1.
inline void sort_rows(const CellRange& range, int* cell, int num_rows, int* offset,
                      int* permutation, int* spare) {
  const int num_cells = range.last - range.first + 1;
#if defined(__AVX512F__)
  if (num_cells <= 32) {
    sort_few_cells(range, cell, num_rows, offset, permutation, spare);
    return;
  }
#elif defined(__AVX2__)
  constexpr int kFewCells = 12;
  if (num_cells <= kFewCells) {
    sort_few_cells(range, cell, num_rows, offset, permutation);
    return;
  }
#endif
  (void)spare;
  for (int c = 0; c <= num_cells; ++c) offset[c] = 0;
  for (int r = 0; r < num_rows; ++r) ++offset[cell[r] - range.first + 1];
  for (int c = 0; c < num_cells; ++c) offset[c + 1] += offset[c];
  for (int r = 0; r < num_rows; ++r) permutation[offset[cell[r] - range.first]++] = r;
  // every offset has moved to the end of its bucket
  for (int c = num_cells; c > 0; --c) offset[c] = offset[c - 1];
  offset[0] = 0;
}

KAN_NAMESPACE_END
