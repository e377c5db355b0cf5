// Products of the tensor cores of compute capability 9.0 (sm_90a): 64 rows times 64 or 128 columns,
// by the 128 threads of four warps, from operands in shared memory, while the threads go on.
//
// Rows 16 w to 16 w + 15 are warp w's; a thread's sums are, for every 8 columns, those of mma.h,
// and so are selectors. Operands are tiles of core matrices (product.h), which a descriptor points
// to: address / 16 in bits 0 to 13, bytes / 16 from a core matrix to the next along the sum in bits
// 16 to 29, and to the next of rows in bits 32 to 45 (PTX ISA, "Matrix descriptor format"; CuTe's
// GmmaDescriptor). Where columns have four along the sum, the last two are likely as far apart.
#pragma once

#include "mma.h"

namespace kan_fast {

constexpr int kWarpgroup = 128;
constexpr int kWgmmaRows = 64;

struct WgmmaOperands {
  const uint32_t* a;  // 64 rows in shared memory
  const uint32_t* b;  // 64 or 128 columns
  int a_row_cores, b_row_cores;
  uint32_t selectors;
  float* c;    // [columns / 2]
  int add_to;  // whether to c; else c is only written
};

#if defined(__CUDACC__)

KAN_HD_INLINE uint64_t wgmma_descriptor(const uint32_t* tile, int row_cores) {
#if defined(__CUDA_ARCH__)
  const uint64_t address = __cvta_generic_to_shared(tile);
  const uint64_t core = kCoreWords * 4 / 16;
  return (address >> 4 & 0x3FFF) | row_cores * core << 16 | core << 32;
#else
  (void)tile, (void)row_cores;
  return 0;
#endif
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KAN_SUMS_32                                                         \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define KAN_SUMS_64                                                                  \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define KAN_SUMS_OF_8(n)                                                                     \
  "+f"(of.c[n]), "+f"(of.c[n + 1]), "+f"(of.c[n + 2]), "+f"(of.c[n + 3]), "+f"(of.c[n + 4]), \
      "+f"(of.c[n + 5]), "+f"(of.c[n + 6]), "+f"(of.c[n + 7])
#define KAN_SUMS_OF_32(n) \
  KAN_SUMS_OF_8(n), KAN_SUMS_OF_8(n + 8), KAN_SUMS_OF_8(n + 16), KAN_SUMS_OF_8(n + 24)
#define KAN_WGMMA_64(instruction, chosen, transposed)                                              \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async" instruction " " KAN_SUMS_32 \
               ", %32, %33, " chosen "p, 1, 1" transposed ";}"                                     \
               : KAN_SUMS_OF_32(0)                                                                 \
               : "l"(a), "l"(b), "r"(of.add_to), "r"(of.selectors)                                 \
               : "memory")
#define KAN_WGMMA_128(instruction, chosen, transposed)                                             \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async" instruction " " KAN_SUMS_64 \
               ", %64, %65, " chosen "p, 1, 1" transposed ";}"                                     \
               : KAN_SUMS_OF_32(0), KAN_SUMS_OF_32(32)                                             \
               : "l"(a), "l"(b), "r"(of.add_to), "r"(of.selectors)                                 \
               : "memory")
#endif

// Begins a product; see wgmma_fence, wgmma_commit and wgmma_wait.
template <Product kProduct, bool kSparse, int kColumns>
KAN_HD_INLINE void wgmma(const WgmmaOperands& of) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  const uint64_t a = wgmma_descriptor(of.a, of.a_row_cores);
  const uint64_t b = wgmma_descriptor(of.b, of.b_row_cores);
  if constexpr (kColumns == 64) {
    static_assert(!is_half(kProduct), "products of half precision have 128 columns");
    if constexpr (kSparse)
      KAN_WGMMA_64(".sp.sync.aligned.m64n64k16.f32.tf32.tf32", "%35, 0, ", "");
    else
      KAN_WGMMA_64(".sync.aligned.m64n64k8.f32.tf32.tf32", "", "");
  } else if constexpr (kProduct == Product::kBf16) {
    if constexpr (kSparse)
      KAN_WGMMA_128(".sp.sync.aligned.m64n128k32.f32.bf16.bf16", "%67, 0, ", ", 0, 0");
    else
      KAN_WGMMA_128(".sync.aligned.m64n128k16.f32.bf16.bf16", "", ", 0, 0");
  } else if constexpr (kProduct == Product::kF16) {
    if constexpr (kSparse)
      KAN_WGMMA_128(".sp.sync.aligned.m64n128k32.f32.f16.f16", "%67, 0, ", ", 0, 0");
    else
      KAN_WGMMA_128(".sync.aligned.m64n128k16.f32.f16.f16", "", ", 0, 0");
  } else {
    if constexpr (kSparse)
      KAN_WGMMA_128(".sp.sync.aligned.m64n128k16.f32.tf32.tf32", "%67, 0, ", "");
    else
      KAN_WGMMA_128(".sync.aligned.m64n128k8.f32.tf32.tf32", "", "");
  }
#else
  (void)of;
#endif
}

// What threads wrote to shared memory may be read by products after this and a barrier.
KAN_HD_INLINE void wgmma_publish() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
// Sums that threads wrote may be added to by products after this.
KAN_HD_INLINE void wgmma_fence() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
KAN_HD_INLINE void wgmma_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Until all products are done; the compiler may not read their sums before.
template <int kNumbers>
KAN_HD_INLINE void wgmma_wait(float (&c)[kNumbers]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int n = 0; n < kNumbers; ++n) asm volatile("" : "+f"(c[n])::"memory");
#else
  (void)c;
#endif
}

#undef KAN_SUMS_32
#undef KAN_SUMS_64
#undef KAN_SUMS_OF_8
#undef KAN_SUMS_OF_32
#undef KAN_WGMMA_64
#undef KAN_WGMMA_128

#else

// The same for four warps whole; `read` sees every word of shared memory that a product reads.
template <Product kProduct, bool kSparse, int kColumns, class Read>
void wgmma_of_warpgroup(const WgmmaOperands (&of)[kWarpgroup], const Read& read) {
  for (int warp = 0; warp < kWarpgroup / kWarp; ++warp) {
    const WgmmaOperands* const lanes = of + warp * kWarp;
    uint32_t a[16][8];
    unsigned selectors[16][8] = {};
    for (int row = 0; row < 16; ++row)
      for (int word = 0; word < 8; ++word) {
        a[row][word] = read(lanes->a + core_word(lanes->a_row_cores, warp * 16 + row, word));
        const int lane = mma_selector_lane(row, word);
        selectors[row][word] = lanes[lane].selectors >> mma_selector_shift(row, word) & 0xF;
      }
    for (int block = 0; block < kColumns / 8; ++block) {
      uint32_t b[mma_b_words(kSparse)][8];
      float c[16][8] = {};
      for (int word = 0; word < mma_b_words(kSparse); ++word)
        for (int column = 0; column < 8; ++column)
          b[word][column] =
              read(lanes->b + core_word(lanes->b_row_cores, block * 8 + column, word));
      multiply_words<kProduct, kSparse>(a, selectors, b, c);
      for (int lane = 0; lane < kWarp; ++lane)
        for (int n = 0; n < 4; ++n) {
          float& sum = lanes[lane].c[block * 4 + n];
          sum = (lanes[lane].add_to ? sum : 0.0f) + c[mma_c_row(lane, n)][mma_c_column(lane, n)];
        }
    }
  }
}

#endif

}  // namespace kan_fast
