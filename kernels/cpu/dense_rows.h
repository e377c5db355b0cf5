// Values of dense families with inputs as lanes.
#pragma once

#include "dense.h"
#include "kan_fast/basis/chebyshev.h"
#include "kan_fast/basis/gaussian_rbf.h"
#include "simd.h"

KAN_NAMESPACE_BEGIN

template <class T>
struct DenseRows {
  using X = Vec<T, kWidest>;
  using V = typename X::V;
  static constexpr int kLanes = X::kLanes;

  const DenseArgs<T>& args;
  T* const values;  // [num_basis, lanes]
  T* const other;   // the same

  // Inputs [begin, end) of row r. `scratch` is [2, num_basis, lanes], aligned.
  static void run(const DenseArgs<T>& args, int64_t r, int64_t begin, int64_t end, T* scratch) {
    const DenseRows rows{args, scratch, scratch + int64_t(args.num_basis) * kLanes};
    for (int64_t i = begin; i < end; i += kLanes)
      rows.lanes(r, i, static_cast<int>(end - i < kLanes ? end - i : kLanes));
  }

 private:
  void lanes(int64_t r, int64_t i, int count) const {
    const V at = load(args.x + r * args.x_row_stride, args.x_col_stride, i, count);
    evaluate(at);
    const int num_basis = args.num_basis;
    T* phi = args.phi + r * args.phi_row_stride + i * num_basis;
    if (args.z == nullptr) {
      if (args.v != nullptr) {
        const V v = load(args.v + r * args.v_row_stride, args.v_col_stride, i, count);
        for (int g = 0; g < num_basis; ++g)
          X::store(values + g * kLanes, X::load(values + g * kLanes) * v);
      }
      transpose(values, kLanes, num_basis, count, phi, num_basis);
      return;
    }
    transpose(phi, num_basis, count, num_basis, other, kLanes);
    V sum{};
    for (int g = 0; g < num_basis; ++g)
      sum += X::load(values + g * kLanes) * X::load(other + g * kLanes);
    T* z = args.z + r * args.z_row_stride + i;
    for (int l = 0; l < count; ++l) z[l] = sum[l];
  }

  static V load(const T* row, int64_t stride, int64_t i, int count) {
    if (stride == 1 && count == kLanes) return X::load(row + i);
    V found{};
    for (int l = 0; l < count; ++l) found[l] = row[(i + l) * stride];
    return found;
  }

  void evaluate(V x) const {
    if (static_cast<Family>(args.family) == Family::kChebyshev) {
      const auto take = [&](int n, V value) { X::store(values + n * kLanes, value); };
      switch (args.derivative) {
        case 0:
          return chebyshev<0>(x, args.num_basis, take);
        case 1:
          return chebyshev<1>(x, args.num_basis, take);
        case 2:
          return chebyshev<2>(x, args.num_basis, take);
        case 3:
          return chebyshev<3>(x, args.num_basis, take);
        case 4:
          return chebyshev<4>(x, args.num_basis, take);
        default:
          return chebyshev<5>(x, args.num_basis, take);
      }
    }
    const auto exp = [](V s) { return vector_exp<kWidest>(s); };
    const T inv_width = T(1) / static_cast<T>(args.width);
    // exp is clamped to the finite range: NaN for what is not finite
    const V zero = x - x;
    for (int g = 0; g < args.num_basis; ++g)
      X::store(values + g * kLanes,
               gaussian_rbf(x, args.centers[g], inv_width, args.derivative, exp) + zero);
  }
};

KAN_NAMESPACE_END
