// A tile of a product of 64 columns, held by four warps of half the rows and columns each.
#pragma once

#include "group.h"

KAN_NAMESPACE_BEGIN

// Threads multiply what they read from shared memory, mma.sync. The more rows a warp has, the less
// often it reads the columns: shared memory is as fast as products with 32 rows, and faster
// with 64.
template <Product kProduct, int kWarpRowsOf>
struct MmaTileOf {
  static constexpr bool kWgmma = false;
  static constexpr int kThreads = 128;
  // fragments of a warp
  static constexpr int kWarpRows = kWarpRowsOf, kWarpColumns = 4;
  static constexpr int kRows = 32 * kWarpRows, kColumns = 64;
  static constexpr int kRowCores = kRows / 8, kColumnCores = kColumns / 8;
  // of an operand in shared memory
  static constexpr int kParts = 1;
  static constexpr bool kSplits = kProduct == Product::kTf32x3;
  static constexpr Part kLast = kSplits ? kRest : kLarge;

  // A thread's share of the tile, and of what a chunk of the sum adds to it: rounding errors grow
  // with the number of chunks, not of columns.
  struct State {
    float sum[kWarpRows][kWarpColumns][4];
    float part[kWarpRows][kWarpColumns][4];
    uint32_t a[kLast + 1][kWarpRows][4], b[kLast + 1][kWarpColumns][4];
    uint32_t selectors[kWarpRows];
  };

  static KAN_HD int row_of(int thread, int m) { return (thread / kWarp / 2 * kWarpRows + m) * 16; }
  static KAN_HD int column_of(int thread, int n) { return thread / kWarp % 2 * 32 + n * 8; }

  // sum += part, and part = 0
  template <class Group, class States>
  static KAN_HD_INLINE void add_part(Group& group, States& states) {
    group.each_alone([&](int thread) {
      State& state = states[thread];
#pragma unroll
      for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
        for (int n = 0; n < kWarpColumns; ++n)
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            state.sum[m][n][c] += state.part[m][n][c];
            state.part[m][n][c] = 0;
          }
    });
  }

  // take(row, column, sum) for all that a thread has of the tile
  template <class Take>
  static KAN_HD_INLINE void each_sum(int thread, const State& state, const Take& take) {
    const int lane = thread % kWarp;
#pragma unroll
    for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
      for (int n = 0; n < kWarpColumns; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          take(row_of(thread, m) + mma_c_row(lane, c), column_of(thread, n) + mma_c_column(lane, c),
               state.sum[m][n][c]);
  }

  // Adds to `part` the product of two core matrices of `a` and two (sparse: four) of `b`.
  //
  // Args:
  //   a, b: the tiles, whose parts are so many words apart: there is one, which threads split as
  //     they read it; selectors: [cores of a, kRows]
  //   a_core, b_core: the first of them along the sum
  template <bool kSparse, class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const uint32_t* a,
                                     const uint32_t* b, [[maybe_unused]] int a_words,
                                     [[maybe_unused]] int b_words, const uint16_t* selectors,
                                     int a_core, int b_core) {
    group.each_alone([&](int thread) {
      State& state = states[thread];
      const int lane = thread % kWarp;
      const auto keep = [&](uint32_t word, uint32_t& large, uint32_t& rest) {
        if constexpr (kSplits) {
          large = to_tf32(float_of(word));
          rest = tf32_rest(float_of(word), large);
        } else {
          large = word;
        }
      };
      uint32_t word[4];
#pragma unroll
      for (int m = 0; m < kWarpRows; ++m) {
        const int row = row_of(thread, m);
        load_cores(a + (a_core * kRowCores + row / 8) * kCoreWords, kCoreWords,
                   kRowCores * kCoreWords, lane, word);
#pragma unroll
        for (int n = 0; n < 4; ++n) keep(word[n], state.a[kLarge][m][n], state.a[kLast][m][n]);
        if constexpr (kSparse) {
          // of the lanes that the instruction does not ask nobody reads them
          const uint16_t* const at = selectors + (a_core + lane % 2) * kRows + row + lane / 4;
          state.selectors[m] = at[0] | static_cast<uint32_t>(at[8]) << 16;
        }
      }
      const uint32_t* const columns =
          b + (b_core * kColumnCores + column_of(thread, 0) / 8) * kCoreWords;
      // four cores of a column, or two of two columns each
#pragma unroll
      for (int m = 0; m < kWarpColumns; m += kSparse ? 1 : 2) {
        constexpr int kFar = kColumnCores * kCoreWords;
        if constexpr (kSparse)
          load_cores(columns + m * kCoreWords, kFar, 2 * kFar, lane, word);
        else
          load_cores(columns + m * kCoreWords, kCoreWords, kFar, lane, word);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const int column = kSparse ? m : m + n % 2, at = kSparse ? n : n / 2;
          keep(word[n], state.b[kLarge][column][at], state.b[kLast][column][at]);
        }
      }
    });
#pragma unroll
    for (int m = 0; m < kWarpRows; ++m)
#pragma unroll
      for (int n = 0; n < kWarpColumns; ++n) {
        const auto product = [&](Part a_part, Part b_part) {
          group.template mma<kProduct, kSparse>(states, [&](State& s, int) {
            return MmaOperands{s.a[a_part][m], s.b[b_part][n], s.selectors[m], s.part[m][n]};
          });
        };
        // the small ones first; only rest times rest, 2^-22 of it all, is left out
        if constexpr (kSplits) product(kRest, kLarge), product(kLarge, kRest);
        product(kLarge, kLarge);
      }
  }

  template <class Group>
  static KAN_HD_INLINE void publish(Group&) {}
};

template <Product kProduct>
using MmaTile = MmaTileOf<kProduct, 2>;
template <Product kProduct>
using TallMmaTile = MmaTileOf<kProduct, 4>;

KAN_NAMESPACE_END
