// Tiles of matrix products with rows as lanes, and the functions of full bases as such lanes.
#pragma once

#include "full.h"
#include "kan_fast/basis/chebyshev.h"
#include "kan_fast/basis/gaussian_rbf.h"
#include "simd.h"
#include "vector_activation.h"

KAN_NAMESPACE_BEGIN

template <class T>
struct FullTiles {
  using X = Vec<T, kWidest>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;
  // 24 sums of 32 registers, or 12 of 16
#if defined(__AVX512F__)
  static constexpr int kVectors = 4, kWide = 6;
#else
  static constexpr int kVectors = 2, kWide = 6;
#endif
  static constexpr int kRows = kVectors * kLanes;

  // What a product reads and writes:
  // c[n, :] (+)= sum_q sum_p a[q * depth + p, :] b[n * b_across + q * b_step + p * b_along].
  struct Product {
    const T* a;  // [steps * depth, a_stride]
    int64_t a_stride;
    const T* b;
    int64_t b_across, b_along, b_step;
    int64_t steps, depth, count;
    bool add;
    T* c;  // [count, c_stride]
    int64_t c_stride;
  };

  // Columns [n, n + kCount) of a product at kWidth vectors of rows.
  template <int kCount, int kWidth>
  static KAN_INLINE void product(const Product& of, int64_t n) {
    V sum[kCount][kWidth] = {};
    const T* a = of.a;
    for (int64_t q = 0; q < of.steps; ++q) {
      const T* b = of.b + n * of.b_across + q * of.b_step;
      for (int64_t p = 0; p < of.depth; ++p, a += of.a_stride) {
        V row[kWidth];
#pragma GCC unroll 4
        for (int m = 0; m < kWidth; ++m) row[m] = X::load(a + m * kLanes);
#pragma GCC unroll 6
        for (int k = 0; k < kCount; ++k) {
          const T factor = b[k * of.b_across + p * of.b_along];
#pragma GCC unroll 4
          for (int m = 0; m < kWidth; ++m) sum[k][m] += row[m] * factor;
        }
      }
    }
    for (int k = 0; k < kCount; ++k)
      for (int m = 0; m < kWidth; ++m) {
        T* at = of.c + (n + k) * of.c_stride + m * kLanes;
        X::store(at, of.add ? X::load(at) + sum[k][m] : sum[k][m]);
      }
  }

  template <int kWidth>
  static void products(const Product& of) {
    int64_t n = 0;
    for (; n + kWide <= of.count; n += kWide) product<kWide, kWidth>(of, n);
    if (n + 4 <= of.count) product<4, kWidth>(of, n), n += 4;
    if (n + 2 <= of.count) product<2, kWidth>(of, n), n += 2;
    if (n < of.count) product<1, kWidth>(of, n);
  }

  // At the first `rows` lanes of a tile; the rest of their last vector is computed as well.
  static void products(const Product& of, int64_t rows) {
    const int64_t vectors = (rows + kLanes - 1) / kLanes;
    if (kVectors > 2 && vectors > 2) return vectors > 3 ? products<4>(of) : products<3>(of);
    return vectors > 1 ? products<2>(of) : products<1>(of);
  }

  // c[m, n] (+)= sum over lanes of a[m, :] b[n, :], for m < rows_a and n < rows_b.
  static void inner_products(const T* a, int64_t a_stride, int64_t rows_a, const T* b,
                             int64_t b_stride, int64_t rows_b, int64_t length, bool add, T* c,
                             int64_t c_stride) {
    const Inner of{a, a_stride, rows_a, b, b_stride, rows_b, length, add, c, c_stride};
    constexpr int kDown = kLanes >= 16 ? 4 : kLanes / 2;
    rows_a == 1 ? inner_products<1>(of) : inner_products<kDown>(of);
  }

  // to[i, :count] = from[r, i]; lanes up to the next whole tile become zero.
  static void columns(const T* from, int64_t row_stride, int64_t col_stride, int64_t count,
                      int64_t inputs, T* to, int64_t to_stride) {
    if (col_stride == 1)
      transpose(from, row_stride, static_cast<int>(count), static_cast<int>(inputs), to, to_stride);
    else
      for (int64_t i = 0; i < inputs; ++i)
        for (int64_t r = 0; r < count; ++r)
          to[i * to_stride + r] = from[r * row_stride + i * col_stride];
    const int64_t whole = (count + kRows - 1) / kRows * kRows;
    for (int64_t i = 0; i < inputs; ++i)
      for (int64_t r = count; r < whole; ++r) to[i * to_stride + r] = 0;
  }

  // Functions of one input at `count` rows, a whole number of vectors: derivative `first` times v,
  // and `second`, each where its memory [num_basis, stride] is not null.
  static void functions(const FullLayer<T>& layer, const T* x, const T* v, int64_t count, int first,
                        T* at_first, int second, T* at_second, int64_t stride) {
    for (int64_t r = 0; r < count; r += kLanes) {
      const V at = X::load(x + r);
      const auto keep = [&](int g, V value_first, V value_second) {
        if (at_first != nullptr)
          X::store(at_first + g * stride + r,
                   v == nullptr ? value_first : value_first * X::load(v + r));
        if (at_second != nullptr) X::store(at_second + g * stride + r, value_second);
      };
      switch (static_cast<Family>(layer.family)) {
        case Family::kChebyshev:
          chebyshev_lanes(at, layer.num_basis, first, second, keep);
          break;
        case Family::kActivation: {
          const VectorActivation<T, kWidest> base(static_cast<Activation>(layer.activation), at);
          keep(0, base.derivative(first), base.derivative(second));
          break;
        }
        default:
          gaussian_lanes(layer, at, first, second, keep);
      }
    }
  }

 private:
  struct Inner {
    const T* a;
    int64_t a_stride, rows_a;
    const T* b;
    int64_t b_stride, rows_b, length;
    bool add;
    T* c;
    int64_t c_stride;
  };

  // kDown rows of a with as many of b as give as many sums as there are lanes, which are then
  // reduced together.
  template <int kDown>
  static void inner_products(const Inner& of) {
    constexpr int kAcross = kLanes / kDown;
    alignas(64) T square[kLanes * kLanes];
    for (int64_t n = 0; n < of.rows_b; n += kAcross)
      for (int64_t m = 0; m < of.rows_a; m += kDown) {
        const T *left[kDown], *right[kAcross];
        // rows beyond the last are the last again, and not stored
        for (int j = 0; j < kDown; ++j)
          left[j] = of.a + (m + j < of.rows_a ? m + j : of.rows_a - 1) * of.a_stride;
        for (int j = 0; j < kAcross; ++j)
          right[j] = of.b + (n + j < of.rows_b ? n + j : of.rows_b - 1) * of.b_stride;
        V sum[kDown][kAcross] = {};
        for (int64_t p = 0; p < of.length; p += kLanes) {
          V across[kAcross];
#pragma GCC unroll 16
          for (int j = 0; j < kAcross; ++j) across[j] = X::load(right[j] + p);
#pragma GCC unroll 4
          for (int i = 0; i < kDown; ++i) {
            const V down = X::load(left[i] + p);
#pragma GCC unroll 16
            for (int j = 0; j < kAcross; ++j) sum[i][j] += down * across[j];
          }
        }
        for (int i = 0; i < kDown; ++i)
          for (int j = 0; j < kAcross; ++j)
            X::store(square + (i * kAcross + j) * kLanes, sum[i][j]);
        const V total = lane_sums<T, kWidest>(square);
        for (int i = 0; i < kDown && m + i < of.rows_a; ++i)
          for (int j = 0; j < kAcross && n + j < of.rows_b; ++j) {
            T& at = of.c[(m + i) * of.c_stride + n + j];
            at = of.add ? at + total[i * kAcross + j] : total[i * kAcross + j];
          }
      }
  }

  template <class Keep>
  static KAN_INLINE void gaussian_lanes(const FullLayer<T>& layer, V x, int first, int second,
                                        const Keep& keep) {
    const T inv_width = T(1) / static_cast<T>(layer.width);
    const V zero = x - x;
    // what training asks for, without loops over derivatives
    if (first == 0 && second <= 1) {
      const T factor = -2 * inv_width;
      for (int g = 0; g < layer.num_basis; ++g) {
        const V s = (x - layer.centers[g]) * inv_width;
        const V value = vector_gaussian<kWidest>(s) + zero;
        keep(g, value, second == 0 ? value : value * (s * factor));
      }
      return;
    }
    for (int g = 0; g < layer.num_basis; ++g) {
      const V s = (x - layer.centers[g]) * inv_width;
      // exp is clamped to the finite range: NaN for what is not finite
      const V value = vector_gaussian<kWidest>(s) + zero;
      keep(g, first == 0 ? value : value * gaussian_rbf_factor(s, inv_width, first),
           second == 0 ? value : value * gaussian_rbf_factor(s, inv_width, second));
    }
  }

  template <class Keep>
  static KAN_INLINE void chebyshev_lanes(V t, int num_basis, int first, int second,
                                         const Keep& keep) {
    const auto take = [&](int n, const V* value) { keep(n, value[first], value[second]); };
    switch (first > second ? first : second) {
      case 0:
        return chebyshev<0>(t, num_basis, take);
      case 1:
        return chebyshev<1>(t, num_basis, take);
      case 2:
        return chebyshev<2>(t, num_basis, take);
      case 3:
        return chebyshev<3>(t, num_basis, take);
      case 4:
        return chebyshev<4>(t, num_basis, take);
      default:
        return chebyshev<5>(t, num_basis, take);
    }
  }
};

KAN_NAMESPACE_END
