// A tile of 64 rows of a product, held by two groups of four warps of half the columns each, that
// leave both operands in shared memory to wgmma. The members that MmaTile has, and what is
// under way between `start` and `finish`.
//
// Wide rather than tall: the functions of a row are evaluated once for all columns of a tile, and
// that takes about as long as products of 256 columns.
#pragma once

#include "group.h"

KAN_NAMESPACE_BEGIN

template <Product kProduct>
struct WgmmaTile {
  static constexpr bool kWgmma = true;
  static constexpr int kThreads = 2 * kWarpgroup;
  static constexpr bool kSplits = kProduct == Product::kTf32x3;
  static constexpr int kGroupColumns = kSplits ? 64 : 128;
  static constexpr int kRows = kWgmmaRows, kColumns = 2 * kGroupColumns;
  static constexpr int kRowCores = kRows / 8, kColumnCores = kColumns / 8;
  static constexpr int kParts = kSplits ? 2 : 1;

  struct State {
    float sum[kGroupColumns / 2];
    float part[kGroupColumns / 2];
    // whether products add to what is in `part`
    int add_to;
  };

  template <class Group, class States>
  static KAN_HD_INLINE void add_part(Group& group, States& states) {
    group.each_alone([&](int thread) {
      State& state = states[thread];
#pragma unroll
      for (int n = 0; n < kGroupColumns / 2; ++n) state.sum[n] += state.part[n];
      state.add_to = 0;
    });
  }

  template <class Take>
  static KAN_HD_INLINE void each_sum(int thread, const State& state, const Take& take) {
    const int lane = thread % kWarp;
#pragma unroll
    for (int n = 0; n < kGroupColumns / 2; ++n)
      take(thread % kWarpgroup / kWarp * 16 + mma_c_row(lane, n % 4),
           thread / kWarpgroup * kGroupColumns + n / 4 * 8 + mma_c_column(lane, n % 4),
           state.sum[n]);
  }

  template <bool kSparse, class Group, class States>
  static KAN_HD_INLINE void multiply(Group& group, States& states, const uint32_t* a,
                                     const uint32_t* b, int a_words, int b_words,
                                     const uint16_t* selectors, int a_core, int b_core) {
    const auto product = [&](Part a_part, Part b_part) {
      group.template wgmma<kProduct, kSparse, kGroupColumns>(states, [&](State& s, int thread) {
        const int lane = thread % kWarp, first = thread / kWarpgroup * kGroupColumns;
        WgmmaOperands of{a + a_part * a_words + a_core * kRowCores * kCoreWords,
                         b + b_part * b_words + (b_core * kColumnCores + first / 8) * kCoreWords,
                         kRowCores,
                         kColumnCores,
                         0,
                         s.part,
                         s.add_to};
        if constexpr (kSparse) {
          const uint16_t* const at =
              selectors + (a_core + lane % 2) * kRows + thread % kWarpgroup / kWarp * 16 + lane / 4;
          of.selectors = at[0] | static_cast<uint32_t>(at[8]) << 16;
        }
        s.add_to = 1;
        return of;
      });
    };
    if constexpr (kSplits) product(kRest, kLarge), product(kLarge, kRest);
    product(kLarge, kLarge);
  }

  template <class Group>
  static KAN_HD_INLINE void publish(Group& group) {
    group.publish();
  }
  template <class Group>
  static KAN_HD_INLINE void start(Group& group) {
    group.start_products();
  }
  template <class Group, class States>
  static KAN_HD_INLINE void finish(Group& group, States& states) {
    group.commit_products();
    group.finish_products(states, [](State& s) -> float (&)[kGroupColumns / 2] { return s.part; });
  }
};

KAN_NAMESPACE_END
