// What tensor cores multiply, and how an operand lies in shared memory.
//
// Numbers are kept in 32-bit words: one of TF32 or float, or two of bfloat16 or float16. An operand
// is a matrix of rows (of the result, or its columns) by words along the sum, in "core matrices" of
// 8 rows by 4 words, 128 bytes one after the other: [words / 4, rows / 8, 8, 4]. The fragment that
// a lane of mma.sync holds of a core matrix is its word `lane`, whatever the number, so a warp
// reads 128 bytes in a row; and wgmma reads the same memory by itself ("no swizzle, K-major").
#pragma once

#include <cstdint>
#include <cstring>

#include "kan_fast/platform.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace kan_fast {

// kTf32x3: float to 2^-22, as three products of TF32.
enum class Product : int { kTf32x3, kTf32, kBf16, kF16 };
// What a float is split into for kTf32x3: the nearest TF32 number and the rest; other products have
// the first alone.
enum Part : int { kLarge = 0, kRest = 1 };

constexpr int kCoreWords = 32;

KAN_HD constexpr bool is_half(Product product) { return product >= Product::kBf16; }
KAN_HD constexpr int numbers_of_word(Product product) { return is_half(product) ? 2 : 1; }
// numbers of a row of a core matrix
KAN_HD constexpr int core_columns(Product product) { return 4 * numbers_of_word(product); }

// The place of a word of a row, in a tile of 8 * row_cores rows.
KAN_HD int core_word(int row_cores, int row, int word) {
  return (word / 4 * row_cores + row / 8) * kCoreWords + row % 8 * 4 + word % 4;
}
// The other way round.
KAN_HD int row_of_word(int row_cores, int n) {
  return n / kCoreWords % row_cores * 8 + n % kCoreWords / 4;
}
KAN_HD int word_of_row(int row_cores, int n) { return n / (kCoreWords * row_cores) * 4 + n % 4; }

KAN_HD uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
KAN_HD float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The nearest TF32 number, halves away from zero, in float's bits; infinities and NaN stay.
KAN_HD_INLINE uint32_t to_tf32(float x) {
#if defined(__CUDA_ARCH__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
#endif
}
// What is left of x, likewise: both together are x but for 2^-22 of it.
KAN_HD_INLINE uint32_t tf32_rest(float x, uint32_t bits) { return to_tf32(x - float_of(bits)); }

template <Product kProduct>
KAN_HD_INLINE uint16_t to_half(float x) {
#if defined(__CUDACC__)
  if constexpr (kProduct == Product::kBf16) return __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return __half_as_ushort(__float2half_rn(x));
#else
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if constexpr (kProduct == Product::kBf16) {
    if (size > 0x7f800000u) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
  }
  if (size > 0x7f800000u) return 0x7fff;
  if (size >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 2^16 and more
  // the float's mantissa with its leading one, shifted to where half's is
  const int exponent = static_cast<int>(size >> 23) - 127;
  const int drop = exponent >= -14 ? 13 : 13 - 14 - exponent;
  if (drop > 24) return static_cast<uint16_t>(sign);
  const uint32_t mantissa = (size & 0x7fffffu) | 0x800000u;
  const uint32_t kept = (mantissa + (1u << (drop - 1)) - 1 + (mantissa >> drop & 1)) >> drop;
  const uint32_t scaled = exponent >= -14 ? static_cast<uint32_t>(exponent + 14) << 10 : 0;
  return static_cast<uint16_t>(sign | (scaled + kept));
#endif
}
template <Product kProduct>
KAN_HD_INLINE float of_half(uint16_t bits) {
  if constexpr (kProduct == Product::kBf16) return float_of(static_cast<uint32_t>(bits) << 16);
#if defined(__CUDACC__)
  return __half2float(__ushort_as_half(bits));
#else
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, size = bits & 0x7fffu;
  if (size >= 0x7c00u) return float_of(sign | 0x7f800000u | (size & 0x3ffu) << 13);
  // 2^-24 units, of which a subnormal number has up to 2^10
  const float value =
      size < 0x400u ? static_cast<float>(size) * 0x1p-24f : float_of((size << 13) + (112u << 23));
  return float_of(bits_of(value) | sign);
#endif
}

// A word of the numbers that `number(n)` gives.
template <Product kProduct, class Number>
KAN_HD_INLINE uint32_t make_word(const Number& number) {
  if constexpr (is_half(kProduct))
    return to_half<kProduct>(number(0)) | static_cast<uint32_t>(to_half<kProduct>(number(1))) << 16;
  // both parts are made where a fragment is read
  if constexpr (kProduct == Product::kTf32x3) return bits_of(number(0));
  return to_tf32(number(0));
}

// One number of a tile.
template <Product kProduct>
KAN_HD_INLINE void store_number(uint32_t* tile, int row_cores, int row, int column, float x) {
  if constexpr (is_half(kProduct))
    reinterpret_cast<uint16_t*>(tile)[2 * core_word(row_cores, row, column / 2) + column % 2] =
        to_half<kProduct>(x);
  else
    tile[core_word(row_cores, row, column)] = make_word<kProduct>([&](int) { return x; });
}

}  // namespace kan_fast
