// The base branch: activations and their derivatives up to kMaxDerivative.
//
// Formulas (docs/math.md, section 3) are templates over the number type, so that a scalar, a SIMD
// vector and a CUDA thread run the same lines.
#pragma once

#include <cmath>

#include "kan_fast/platform.h"

KAN_NAMESPACE_BEGIN

enum class Activation : int {
  kSilu = 0,
  kIdentity = 1,
  kZero = 2,
  kRelu = 3,
  kGelu = 4,
  kTanh = 5
};

// n-th derivative of the logistic function from its value s; q = s (1 - s), r = 1 - 2 s.
template <class V>
KAN_HD V sigmoid_derivative(V s, int n) {
  const V q = s * (1 - s);
  const V r = 1 - 2 * s;
  switch (n) {
    case 0:
      return s;
    case 1:
      return q;
    case 2:
      return q * r;
    case 3:
      return q * (1 - 6 * q);
    case 4:
      return q * r * (1 - 12 * q);
    default:
      return q * (1 - 30 * q + 120 * q * q);
  }
}

// (x s(x))^(n) = x s^(n) + n s^(n-1)
template <class V>
KAN_HD V silu_derivative(V x, V s, int n) {
  V value = x * sigmoid_derivative(s, n);
  if (n > 0) value += static_cast<float>(n) * sigmoid_derivative(s, n - 1);
  return value;
}

// n-th derivative of tanh from its value t, n <= 5; u = 1 - t^2
template <class V>
KAN_HD V tanh_derivative(V t, int n) {
  const V u = 1 - t * t;
  switch (n) {
    case 0:
      return t;
    case 1:
      return u;
    case 2:
      return -2 * t * u;
    case 3:
      return u * (6 * t * t - 2);
    case 4:
      return t * u * (16 - 24 * t * t);
    default:
      return u * (120 * t * t * t * t - 120 * t * t + 16);
  }
}

// gelu(x) = x C(x), C the normal distribution function: gelu^(n) = x C^(n) + n C^(n-1), and
// C^(m) = (-1)^(m-1) He_{m-1}(x) C'(x) with He the probabilists' Hermite polynomials.
template <class T>
KAN_HD T normal_cdf_derivative(T x, int m) {
  if (m == 0) return T(0.5) * std::erfc(-x * T(0.70710678118654752440));
  const T density = T(0.39894228040143267794) * std::exp(T(-0.5) * x * x);
  T previous = 0;
  T hermite = 1;
  for (int n = 1; n < m; ++n) {
    const T following = x * hermite - (n - 1) * previous;
    previous = hermite;
    hermite = following;
  }
  return ((m - 1) % 2 ? -hermite : hermite) * density;
}

// n-th derivative of the activation at one x, 0 <= n <= kMaxDerivative.
template <class T>
KAN_HD T activation_derivative(Activation kind, T x, int n) {
  switch (kind) {
    case Activation::kSilu:
      return silu_derivative(x, T(1) / (T(1) + std::exp(-x)), n);
    case Activation::kIdentity:
      // x - x keeps NaN a NaN
      return n == 0 ? x : (x - x) + T(n == 1);
    case Activation::kRelu:
      // the derivative at 0 is 0, as in torch
      if (n == 0) return x > T(0) || x != x ? x : T(0);
      return n == 1 && x > T(0) ? T(1) : x - x;
    case Activation::kGelu: {
      T value = x * normal_cdf_derivative(x, n);
      return n == 0 ? value : value + n * normal_cdf_derivative(x, n - 1);
    }
    case Activation::kTanh:
      return tanh_derivative(std::tanh(x), n);
    default:
      return T(0);
  }
}

KAN_NAMESPACE_END
