// Short vectors of any width, written with the compiler's vector extension: one source for SSE2,
// AVX2, AVX-512 and NEON.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kan_fast/platform.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

KAN_NAMESPACE_BEGIN

#if defined(__AVX512F__)
constexpr int kWidest = 64;
#elif defined(__AVX2__)
constexpr int kWidest = 32;
#else
constexpr int kWidest = 16;
#endif

// Hides where a number comes from: GCC would compute multiples of it one by one, where an address
// may scale it.
KAN_INLINE void opaque(int64_t& number) { asm("" : "+r"(number)); }

template <class T, int kBytes>
struct Vec {
  static constexpr int kLanes = kBytes / sizeof(T);
  using Int = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;
  typedef T V __attribute__((vector_size(kBytes)));
  typedef T U __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
  typedef Int I __attribute__((vector_size(kBytes)));
  typedef Int IU __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));

  static KAN_INLINE V load(const T* p) { return *reinterpret_cast<const U*>(p); }
  static KAN_INLINE void store(T* p, V v) { *reinterpret_cast<U*>(p) = v; }
  static inline V set(T s) { return V{} + s; }
  // whether a comparison holds in all lanes
  static KAN_INLINE bool all(I v) {
#if defined(__AVX512F__)
    if constexpr (kBytes == 64)
      return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v)) ==
             0xffff;
#endif
#if defined(__AVX2__)
    if constexpr (kBytes == 32) return _mm256_movemask_epi8(reinterpret_cast<__m256i>(v)) == -1;
#endif
    int64_t part[kBytes / 8], both = -1;
    std::memcpy(part, &v, sizeof(v));
    for (const int64_t bits : part) both &= bits;
    return both == -1;
  }
  // lanes without the bit `half` hold sums of two lanes of a, the others of two lanes of b
  static KAN_INLINE V fold(V a, V b, int half) {
#if defined(__clang__)
    V sum;
    for (int l = 0; l < kLanes; ++l) sum[l] = (l & half) ? b[l - half] + b[l] : a[l] + a[l + half];
    return sum;
#else
    I lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = l;
    const I from_b = (lane & half) != 0;
    const I low = from_b ? lane - half + kLanes : lane;
    const I high = from_b ? lane + kLanes : lane + half;
    return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
#endif
  }
  // halves are added to each other: pairwise, in a fixed order
  static inline T sum(V v) {
    if constexpr (kLanes == 2) {
      return v[0] + v[1];
    } else if constexpr (kBytes == 16) {
      return (v[0] + v[2]) + (v[1] + v[3]);
    } else {
      using Half = Vec<T, kBytes / 2>;
      typename Half::V low, high;
      std::memcpy(&low, &v, sizeof(low));
      std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
      return Half::sum(low + high);
    }
  }
};

// Lane l of the result is the sum of vector l of a square of numbers: half the shuffles of summing
// one vector at a time, and the order of additions is the same for every vector.
template <class T, int kBytes>
inline typename Vec<T, kBytes>::V lane_sums(const T* square /* [kLanes, kLanes] */) {
  using X = Vec<T, kBytes>;
  typename X::V v[X::kLanes];
  for (int n = 0; n < X::kLanes; ++n) v[n] = X::load(square + n * X::kLanes);
#pragma GCC unroll 4
  for (int half = X::kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (int n = 0; n < half; ++n) v[n] = X::fold(v[n], v[n + half], half);
  return v[0];
}

// Of every four lanes of a and of b together the lanes n0 to n3, those of b being 4 to 7.
template <class T, int kBytes>
KAN_INLINE typename Vec<T, kBytes>::V shuffle_squares(typename Vec<T, kBytes>::V a,
                                                      typename Vec<T, kBytes>::V b, int n0, int n1,
                                                      int n2, int n3) {
  using X = Vec<T, kBytes>;
  const int from[4] = {n0, n1, n2, n3};
#if defined(__clang__)
  typename X::V result;
  for (int l = 0; l < X::kLanes; ++l)
    result[l] = from[l % 4] < 4 ? a[l / 4 * 4 + from[l % 4]] : b[l / 4 * 4 + from[l % 4] - 4];
  return result;
#else
  typename X::I lane;
  for (int l = 0; l < X::kLanes; ++l)
    lane[l] = l / 4 * 4 + (from[l % 4] < 4 ? from[l % 4] : from[l % 4] - 4 + X::kLanes);
  return __builtin_shuffle(a, b, lane);
#endif
}

// Four vectors, and the 4 x 4 squares of their lanes transposed: element n of lanes 4q to 4q + 3 of
// row[m] becomes element m of lanes 4q to 4q + 3 of row[n].
template <class T, int kBytes>
KAN_INLINE void transpose_squares(typename Vec<T, kBytes>::V* row) {
  using V = typename Vec<T, kBytes>::V;
  const V ab_low = shuffle_squares<T, kBytes>(row[0], row[1], 0, 4, 1, 5);
  const V ab_high = shuffle_squares<T, kBytes>(row[0], row[1], 2, 6, 3, 7);
  const V cd_low = shuffle_squares<T, kBytes>(row[2], row[3], 0, 4, 1, 5);
  const V cd_high = shuffle_squares<T, kBytes>(row[2], row[3], 2, 6, 3, 7);
  row[0] = shuffle_squares<T, kBytes>(ab_low, cd_low, 0, 1, 4, 5);
  row[1] = shuffle_squares<T, kBytes>(ab_low, cd_low, 2, 3, 6, 7);
  row[2] = shuffle_squares<T, kBytes>(ab_high, cd_high, 0, 1, 4, 5);
  row[3] = shuffle_squares<T, kBytes>(ab_high, cd_high, 2, 3, 6, 7);
}

// Four numbers, and 4 x 4 transposed in registers: storing number by number would cost more than
// the arithmetic on them.
template <class T>
struct Quad {
  using X = Vec<T, 4 * sizeof(T)>;
  using V = typename X::V;
  V row[4];

  static Quad load(const T* src, int64_t stride) {
    return {X::load(src), X::load(src + stride), X::load(src + 2 * stride),
            X::load(src + 3 * stride)};
  }

  void store(T* dst, int64_t stride) const {
    for (int n = 0; n < 4; ++n) X::store(dst + n * stride, row[n]);
  }

  Quad transposed() const {
    Quad result = *this;
    transpose_squares<T, 4 * sizeof(T)>(result.row);
    return result;
  }
};

// dst[c, r] = src[r, c] for any rows and columns.
template <class T>
inline void transpose(const T* src, int64_t src_stride, int rows, int columns, T* dst,
                      int64_t dst_stride) {
  const int whole_rows = rows / 4 * 4;
  const int whole_columns = columns / 4 * 4;
  for (int r = 0; r < whole_rows; r += 4)
    for (int c = 0; c < whole_columns; c += 4)
      Quad<T>::load(src + r * src_stride + c, src_stride)
          .transposed()
          .store(dst + c * dst_stride + r, dst_stride);
  for (int r = 0; r < rows; ++r)
    for (int c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      dst[c * dst_stride + r] = src[r * src_stride + c];
}

// exp(x) for float lanes, within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, Cody-Waite reduction
// and a degree-6 polynomial in r. Clamped to the finite range; NaN stays NaN.
template <int kBytes>
KAN_INLINE typename Vec<float, kBytes>::V vector_exp(typename Vec<float, kBytes>::V x) {
  using X = Vec<float, kBytes>;
  using V = typename X::V;
  x = x > 88.0f ? X::set(88.0f) : x;
  x = x < -87.0f ? X::set(-87.0f) : x;
  // adding 1.5 * 2^23 rounds to an integer in the low bits
  const V magic = X::set(12582912.0f);
  const V shifted = x * 1.44269504088896341f + magic;
  const V n = shifted - magic;
  V r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = X::set(1.3981999507e-3f);
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  typename X::I bits = reinterpret_cast<typename X::I>(shifted) << 23;
  return p * reinterpret_cast<V>(bits + (127 << 23));
}

template <int kBytes>
KAN_INLINE typename Vec<float, kBytes>::V exp2_polynomial(typename Vec<float, kBytes>::V f) {
  typename Vec<float, kBytes>::V p = f * 1.5461444854736e-4f + 1.3400427997112e-3f;
  p = p * f + 9.6180569380522e-3f;
  p = p * f + 5.5503271520138e-2f;
  p = p * f + 2.4022650718689e-1f;
  p = p * f + 6.9314718246460e-1f;
  return p * f + 1.0f;
}

// 2^x of less is zero: subnormal numbers, and products that become some, would take a hundred
// cycles each.
constexpr float kLeastExponent = -100.0f;

// 2^x for float lanes, x <= 0, within 2 ulp: x = n + f with |f| <= 1/2, and the polynomial of
// degree 6 through the Chebyshev points of that interval. No reduction by parts of ln 2 and no
// clamp above: half the instructions of exp. NaN stays NaN.
template <int kBytes>
KAN_INLINE typename Vec<float, kBytes>::V vector_exp2_of_negative(
    typename Vec<float, kBytes>::V x) {
  using X = Vec<float, kBytes>;
  using V = typename X::V;
#if defined(__AVX512F__)
  if constexpr (kBytes == 64) {
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kLeastExponent), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(normal, exp2_polynomial<kBytes>(x - n), n);
  }
#endif
  // adding 1.5 * 2^23 rounds to an integer in the low bits
  const V magic = X::set(12582912.0f);
  const V shifted = x + magic;
  typename X::I bits = reinterpret_cast<typename X::I>(shifted) << 23;
  const V value =
      exp2_polynomial<kBytes>(x - (shifted - magic)) * reinterpret_cast<V>(bits + (127 << 23));
  return x < kLeastExponent ? V{} : value;
}

// exp(x) for double lanes, within 2 ulp: the same with the Taylor polynomial of degree 13, whose
// remainder is below 2^-57 for |r| <= ln 2 / 2.
template <int kBytes>
KAN_INLINE typename Vec<double, kBytes>::V vector_exp(typename Vec<double, kBytes>::V x) {
  using X = Vec<double, kBytes>;
  using V = typename X::V;
  x = x > 709.0 ? X::set(709.0) : x;
  x = x < -708.0 ? X::set(-708.0) : x;
  // adding 1.5 * 2^52 rounds to an integer in the low bits
  const V magic = X::set(6755399441055744.0);
  const V shifted = x * 1.44269504088896340736 + magic;
  const V n = shifted - magic;
  V r = x - n * 6.93147180369123816490e-01;
  r = r - n * 1.90821492927058770002e-10;
  V p = X::set(1.0 / 6227020800.0);
  constexpr double kInverseFactorials[] = {1.0 / 479001600.0,
                                           1.0 / 39916800.0,
                                           1.0 / 3628800.0,
                                           1.0 / 362880.0,
                                           1.0 / 40320.0,
                                           1.0 / 5040.0,
                                           1.0 / 720.0,
                                           1.0 / 120.0,
                                           1.0 / 24.0,
                                           1.0 / 6.0,
                                           0.5};
  for (const double c : kInverseFactorials) p = p * r + c;
  p = p * r * r + r + 1.0;
  typename X::I bits = reinterpret_cast<typename X::I>(shifted) << 52;
  return p * reinterpret_cast<V>(bits + (int64_t{1023} << 52));
}

// exp(-s^2), which Gaussians are made of; the double form goes through exp.
template <int kBytes>
KAN_INLINE typename Vec<float, kBytes>::V vector_gaussian(typename Vec<float, kBytes>::V s) {
  return vector_exp2_of_negative<kBytes>(s * s * -1.44269504088896341f);
}
template <int kBytes>
KAN_INLINE typename Vec<double, kBytes>::V vector_gaussian(typename Vec<double, kBytes>::V s) {
  return vector_exp<kBytes>(-s * s);
}

KAN_NAMESPACE_END
