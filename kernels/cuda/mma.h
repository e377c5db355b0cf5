// Products of tensor cores: 16 x 8 times 8 x 8 in TF32, by the 32 threads of a warp.
//
// Who holds what (PTX ISA, "Matrix fragments for mma.m16n8k8"), with group = lane / 4 and
// place = lane % 4:
//   a[0..3]  rows group, group + 8, group, group + 8; columns place, place, place + 4, place + 4
//   b[0..1]  rows place, place + 4; column group
//   c[0..3]  rows group, group, group + 8, group + 8; columns 2 place, 2 place + 1, and again
#pragma once

#include <cstdint>
#include <cstring>

#include "kan_fast/platform.h"

namespace kan_fast {

constexpr int kWarp = 32;

KAN_HD int mma_a_row(int lane, int n) { return lane / 4 + n % 2 * 8; }
KAN_HD int mma_a_column(int lane, int n) { return lane % 4 + n / 2 * 4; }
KAN_HD int mma_b_row(int lane, int n) { return lane % 4 + n * 4; }
KAN_HD int mma_b_column(int lane) { return lane / 4; }
KAN_HD int mma_c_row(int lane, int n) { return lane / 4 + n / 2 * 8; }
KAN_HD int mma_c_column(int lane, int n) { return lane % 4 * 2 + n % 2; }

// The nearest TF32 number, halves away from zero, in float's bits; infinities and NaN stay.
KAN_HD_INLINE uint32_t to_tf32(float x) {
#if defined(__CUDA_ARCH__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
#endif
}

KAN_HD_INLINE float of_tf32(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

// What is left of x, likewise: both together are x but for 2^-22 of it.
KAN_HD_INLINE uint32_t tf32_rest(float x, uint32_t bits) { return to_tf32(x - of_tf32(bits)); }

// The structured-sparse form, 16 x 16 times 16 x 8 with a of 16 x 8 pairs (PTX ISA, "Matrix
// fragments for sparse mma.m16n8k16"): a[0..3] hold pairs as dense a holds columns, b[0..3] rows
// place, place + 4, place + 8 and place + 12. Selectors of four bits, `sparse_selector_tf32`, are
// in the first two threads of a group: pairs 0 to 3 in the first, 4 to 7 in the second, of row
// group in the lower half and of row group + 8 in the upper.
KAN_HD int mma_selector_lane(int row, int pair) { return row % 8 * 4 + pair / 4; }
KAN_HD int mma_selector_shift(int row, int pair) { return row / 8 * 16 + pair % 4 * 4; }

struct MmaSparseOperands {
  const uint32_t* a;  // [4]
  const uint32_t* b;  // [4]
  uint32_t selectors;
  float* c;  // [4], added to
};

// A thread's share of a product.
struct MmaOperands {
  const uint32_t* a;  // [4]
  const uint32_t* b;  // [2]
  float* c;           // [4], added to
};

#if defined(__CUDACC__)
// the host's half of a function that is compiled for both is never called
KAN_HD_INLINE void mma_tf32(const MmaOperands& of) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(of.c[0]), "+f"(of.c[1]), "+f"(of.c[2]), "+f"(of.c[3])
      : "r"(of.a[0]), "r"(of.a[1]), "r"(of.a[2]), "r"(of.a[3]), "r"(of.b[0]), "r"(of.b[1]));
#else
  (void)of;
#endif
}
KAN_HD_INLINE void mma_sparse_tf32(const MmaSparseOperands& of) {
#if defined(__CUDA_ARCH__)
  asm volatile(
      "mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
      : "+f"(of.c[0]), "+f"(of.c[1]), "+f"(of.c[2]), "+f"(of.c[3])
      : "r"(of.a[0]), "r"(of.a[1]), "r"(of.a[2]), "r"(of.a[3]), "r"(of.b[0]), "r"(of.b[1]),
        "r"(of.b[2]), "r"(of.b[3]), "r"(of.selectors));
#else
  (void)of;
#endif
}
#else
// The same for a whole warp, from what its threads hold.
inline void mma_tf32_of_warp(const MmaOperands (&of)[kWarp]) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int n = 0; n < 4; ++n)
      a[mma_a_row(lane, n)][mma_a_column(lane, n)] = of_tf32(of[lane].a[n] & ~0x1fffu);
    for (int n = 0; n < 2; ++n)
      b[mma_b_row(lane, n)][mma_b_column(lane)] = of_tf32(of[lane].b[n] & ~0x1fffu);
  }
  for (int lane = 0; lane < kWarp; ++lane)
    for (int n = 0; n < 4; ++n)
      for (int k = 0; k < 8; ++k)
        of[lane].c[n] += a[mma_c_row(lane, n)][k] * b[k][mma_c_column(lane, n)];
}
inline void mma_sparse_tf32_of_warp(const MmaSparseOperands (&of)[kWarp]) {
  float a[16][16] = {}, b[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int n = 0; n < 4; ++n) {
      const int row = mma_a_row(lane, n), pair = mma_a_column(lane, n);
      const uint32_t selector =
          of[mma_selector_lane(row, pair)].selectors >> mma_selector_shift(row, pair) & 0xF;
      // the two quarters of a member, or nothing that the hardware knows
      const float at = of_tf32(of[lane].a[n] & ~0x1fffu);
      if (selector == 0x4)
        a[row][2 * pair] = at;
      else
        a[row][2 * pair + 1] = selector == 0xE ? at : of_tf32(0x7fc00000u);
    }
    for (int n = 0; n < 4; ++n)
      b[mma_b_row(lane, n)][mma_b_column(lane)] = of_tf32(of[lane].b[n] & ~0x1fffu);
  }
  for (int lane = 0; lane < kWarp; ++lane)
    for (int n = 0; n < 4; ++n)
      for (int k = 0; k < 16; ++k)
        of[lane].c[n] += a[mma_c_row(lane, n)][k] * b[k][mma_c_column(lane, n)];
}
#endif

}  // namespace kan_fast
