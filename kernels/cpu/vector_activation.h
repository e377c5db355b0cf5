// The base activation and its derivatives at vectors of x.
#pragma once

#include "kan_fast/activation.h"
#include "simd.h"

KAN_NAMESPACE_BEGIN

// The activation at a vector of x, for several derivatives: SiLU, which nearly everyone uses, in
// SIMD and with one exponential for all of them; the others lane by lane.
template <class T, int kBytes>
struct VectorActivation {
  using V = typename Vec<T, kBytes>::V;
  Activation kind;
  V x;
  V sigmoid;

  KAN_INLINE VectorActivation(Activation kind, V x) : kind(kind), x(x), sigmoid(V{}) {
    if (kind == Activation::kSilu) sigmoid = T(1) / (T(1) + vector_exp<kBytes>(-x));
  }

  KAN_INLINE V derivative(int n) const {
    if (kind != Activation::kSilu) return lane_by_lane(n);
    if (n == 0) return x * sigmoid;
    if (n == 1) return sigmoid + x * sigmoid * (1 - sigmoid);
    return high_derivative(n);
  }

 private:
  __attribute__((noinline)) V lane_by_lane(int n) const {
    V value = x;
    for (int l = 0; l < Vec<T, kBytes>::kLanes; ++l)
      value[l] = activation_derivative<T>(kind, x[l], n);
    return value;
  }
  __attribute__((noinline)) V high_derivative(int n) const {
    return silu_derivative(x, sigmoid, n);
  }
};

// One loop of `activations`.
template <class T, int kBytes>
KAN_INLINE void activation_loop(Activation kind, const T* x, int64_t count, int derivative_a, T* a,
                                int derivative_b, T* b) {
  using X = Vec<T, kBytes>;
  for (int64_t n = 0; n < count; n += X::kLanes) {
    const VectorActivation<T, kBytes> activation(kind, X::load(x + n));
    if (a != nullptr) X::store(a + n, activation.derivative(derivative_a));
    if (b != nullptr) X::store(b + n, activation.derivative(derivative_b));
  }
}

// Two derivatives of the activation at `count` numbers, rounded up to whole vectors; either may be
// null. In a loop of their own the divisions of many vectors overlap, and the constants of the two
// usual cases stay in registers.
template <class T, int kBytes>
inline void activations(Activation kind, const T* x, int64_t count, int derivative_a, T* a,
                        int derivative_b, T* b) {
  const bool usual = kind == Activation::kSilu && a != nullptr && derivative_a == 0;
  if (usual && b == nullptr)
    activation_loop<T, kBytes>(Activation::kSilu, x, count, 0, a, 0, nullptr);
  else if (usual && derivative_b == 1)
    activation_loop<T, kBytes>(Activation::kSilu, x, count, 0, a, 1, b);
  else
    activation_loop<T, kBytes>(kind, x, count, derivative_a, a, derivative_b, b);
}

KAN_NAMESPACE_END
