// Products of tensor cores by the 32 threads of a warp: 16 rows times 8 columns, summed over 8
// words of each (product.h), or over 16 where the left side is structured-sparse.
//
// Who holds what (PTX ISA, "Matrix fragments for mma.m16n8k8" and its kin; compared with CuTe's
// layouts in tests/cpp/test_layouts.cpp), with group = lane / 4 and place = lane % 4:
//   a[0..3]  rows group, group + 8, group, group + 8; words place, place, place + 4, place + 4
//   b[n]     column group; word place + 4 n
//   c[0..3]  rows group, group, group + 8, group + 8; columns 2 place, 2 place + 1, and again
// So a[n] and b[n] are the words `lane` of core matrices.
//
// Structured-sparse ("Sparse matrix storage"): word w of a is what is kept of words 2 w and
// 2 w + 1; a selector of four bits names its two quarters, of 16 bits each, of their four
// (sparse_columns.h). Those of words 0 to 3 are in the first thread of a group, of 4 to 7 in the
// second: of row group in the lower half and of row group + 8 in the upper.
#pragma once

#include "product.h"

namespace kan_fast {

constexpr int kWarp = 32;

KAN_HD int mma_a_row(int lane, int n) { return lane / 4 + n % 2 * 8; }
KAN_HD int mma_a_word(int lane, int n) { return lane % 4 + n / 2 * 4; }
KAN_HD int mma_b_word(int lane, int n) { return lane % 4 + n * 4; }
KAN_HD int mma_b_column(int lane) { return lane / 4; }
KAN_HD int mma_c_row(int lane, int n) { return lane / 4 + n / 2 * 8; }
KAN_HD int mma_c_column(int lane, int n) { return lane % 4 * 2 + n % 2; }
KAN_HD int mma_selector_lane(int row, int word) { return row % 8 * 4 + word / 4; }
KAN_HD int mma_selector_shift(int row, int word) { return row / 8 * 16 + word % 4 * 4; }

// The words that a lane holds of four core matrices in shared memory, `near` words apart in pairs
// and `far` between pairs. All lanes of a warp ask for the same.
KAN_HD_INLINE void load_cores(const uint32_t* first, int near, int far, int lane,
                              uint32_t (&word)[4]) {
#if defined(__CUDA_ARCH__)
  // lanes 8 n to 8 n + 7 point to the rows of the n-th
  const uint32_t* const row = first + lane / 8 % 2 * near + lane / 16 * far + lane % 8 * 4;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  for (int n = 0; n < 4; ++n) word[n] = first[n % 2 * near + n / 2 * far + lane];
#endif
}

// words of b that a product sums over
KAN_HD constexpr int mma_b_words(bool sparse) { return sparse ? 16 : 8; }

// A thread's share of a product.
struct MmaOperands {
  const uint32_t* a;  // [4]
  const uint32_t* b;  // [2], or [4] if sparse
  uint32_t selectors;
  float* c;  // [4], added to
};

#if defined(__CUDACC__)

#define KAN_MMA(instruction)                                                           \
  asm volatile(instruction                                                             \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "                       \
               "{%0, %1, %2, %3};"                                                     \
               : "+f"(of.c[0]), "+f"(of.c[1]), "+f"(of.c[2]), "+f"(of.c[3])            \
               : "r"(of.a[0]), "r"(of.a[1]), "r"(of.a[2]), "r"(of.a[3]), "r"(of.b[0]), \
                 "r"(of.b[1]))
#define KAN_MMA_SPARSE(instruction)                                                    \
  asm volatile(instruction                                                             \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, "             \
               "{%0, %1, %2, %3}, %12, 0x0;"                                           \
               : "+f"(of.c[0]), "+f"(of.c[1]), "+f"(of.c[2]), "+f"(of.c[3])            \
               : "r"(of.a[0]), "r"(of.a[1]), "r"(of.a[2]), "r"(of.a[3]), "r"(of.b[0]), \
                 "r"(of.b[1]), "r"(of.b[2]), "r"(of.b[3]), "r"(of.selectors))

// the host's half of a function that is compiled for both is never called
template <Product kProduct, bool kSparse>
KAN_HD_INLINE void mma(const MmaOperands& of) {
#if defined(__CUDA_ARCH__)
  if constexpr (kSparse) {
    if constexpr (kProduct == Product::kBf16)
      KAN_MMA_SPARSE("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32");
    else if constexpr (kProduct == Product::kF16)
      KAN_MMA_SPARSE("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32");
    else
      KAN_MMA_SPARSE("mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32");
  } else {
    if constexpr (kProduct == Product::kBf16)
      KAN_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
    else if constexpr (kProduct == Product::kF16)
      KAN_MMA("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    else
      KAN_MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
  }
#else
  (void)of;
#endif
}

#undef KAN_MMA
#undef KAN_MMA_SPARSE

#else

// A number of a word as tensor cores read it.
template <Product kProduct>
inline float number_of(uint32_t word, int n) {
  if constexpr (is_half(kProduct)) return of_half<kProduct>(static_cast<uint16_t>(word >> 16 * n));
  return float_of(word & ~0x1fffu);
}

// A product whole: c [16, 8] from a [16, 8], selectors [16, 8] and b [words, 8].
template <Product kProduct, bool kSparse>
void multiply_words(const uint32_t (&a)[16][8], const unsigned (&selectors)[16][8],
                    const uint32_t (*b)[8], float (&c)[16][8]) {
  constexpr int kNumbers = numbers_of_word(kProduct);
  const float nan = float_of(0x7fc00000u);
  for (int row = 0; row < 16; ++row)
    for (int word = 0; word < 8; ++word)
      for (int n = 0; n < kNumbers; ++n) {
        float at = number_of<kProduct>(a[row][word], n);
        int b_word = word, b_number = n;
        if (kSparse && kNumbers == 1) {
          // both quarters of a number, or nothing that the hardware knows
          const unsigned selector = selectors[row][word];
          b_word = 2 * word + (selector == 0xE);
          if (selector != 0x4 && selector != 0xE) at = nan;
        } else if (kSparse) {
          const unsigned first = selectors[row][word] & 3, second = selectors[row][word] >> 2;
          const unsigned quarter = n == 0 ? first : second;
          b_word = 2 * word + quarter / 2, b_number = quarter % 2;
          if (first >= second) at = nan;
        }
        for (int column = 0; column < 8; ++column)
          c[row][column] += at * number_of<kProduct>(b[b_word][column], b_number);
      }
}

// The same from what the threads of a warp hold.
template <Product kProduct, bool kSparse>
void mma_of_warp(const MmaOperands (&of)[kWarp]) {
  uint32_t a[16][8], b[mma_b_words(kSparse)][8];
  unsigned selectors[16][8] = {};
  float c[16][8] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int n = 0; n < 4; ++n) {
      const int row = mma_a_row(lane, n), word = mma_a_word(lane, n);
      a[row][word] = of[lane].a[n];
      selectors[row][word] =
          of[mma_selector_lane(row, word)].selectors >> mma_selector_shift(row, word) & 0xF;
    }
    for (int n = 0; n < mma_b_words(kSparse) / 4; ++n)
      b[mma_b_word(lane, n)][mma_b_column(lane)] = of[lane].b[n];
  }
  multiply_words<kProduct, kSparse>(a, selectors, b, c);
  for (int lane = 0; lane < kWarp; ++lane)
    for (int n = 0; n < 4; ++n) of[lane].c[n] += c[mma_c_row(lane, n)][mma_c_column(lane, n)];
}

#endif

}  // namespace kan_fast
