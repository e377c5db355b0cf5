// Families whose functions are all active everywhere: products of full matrices, one of which is
// evaluated where it is needed.
#pragma once

#include "entry.h"

namespace kan_fast {

// The last is a family of one: a base branch on inputs of its own.
enum class Family : int { kGaussianRbf = 0, kChebyshev = 1, kActivation = 2 };

// Inputs of a layer are normalised row by row before its functions see them:
//
//   n = (x - mean) rstd,   rstd = 1 / sqrt(variance + eps),   x <- n weight + bias
template <class T>
struct RowNorm {
  const T* weight;  // [in_features]; null means ones
  const T* bias;    // [in_features]; null means zeros
  double eps;
  // [2, stride], mean and rstd, whose stride is rows rounded up to 64: full_out writes them,
  // full_in_weight reads them. Null: nothing is normalised.
  T* statistics;
  int64_t stride;
};

template <class T>
struct FullLayer {
  int64_t rows, in_features, out_features;
  int family;  // kan_fast::Family
  int num_basis;
  int activation;    // kan_fast::Activation
  double width;      // of the Gaussians
  const T* centers;  // [num_basis] of the Gaussians; null otherwise
  const T* x;        // [rows, in_features], any strides
  int64_t x_row_stride, x_col_stride;
  const T* v;  // [rows, in_features], any strides; null means ones
  int64_t v_row_stride, v_col_stride;
  const T* weight;  // [out_features, in_features, num_basis], functions next to each other
  int64_t weight_out_stride, weight_in_stride;
  RowNorm<T> norm;

  int64_t columns() const { return in_features * num_basis; }
  bool has_norm() const { return norm.statistics != nullptr; }
};

// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i])                       (docs/math.md, eq. 5)
//
// With a base, a layer of the same rows and outputs on inputs of its own, y is the sum of both and
// of a bias.
template <class T>
struct FullOutArgs {
  FullLayer<T> layer;
  int derivative;
  T* y;  // [rows, out_features], contiguous
  bool has_base;
  FullLayer<T> base;
  const T* bias;  // [out_features]; null means zeros
};

// z and S of docs/math.md, eq. 6 and 7, and the gradients of a normalisation (eq. 15); one that is
// null is not computed.
template <class T>
struct FullGradients {
  FullLayer<T> layer;
  int derivative_in, derivative_weight;
  T* z;            // [rows, in_features], contiguous
  T* grad_weight;  // as weight, with its strides
  T* grad_norm;    // [2, in_features], of the weight and the bias
  bool add;        // to what z holds

  bool reads_weights() const { return z != nullptr || grad_norm != nullptr; }
};

// Those of a layer, and of its base where it has one, from the same u. A base of the same inputs
// may add its z to the layer's.
template <class T>
struct FullInWeightArgs {
  FullGradients<T> main;
  const T* u;  // [rows, out_features], any strides
  int64_t u_row_stride, u_col_stride;
  bool has_base;
  FullGradients<T> base;
};

template <class T>
Status full_out(const FullOutArgs<T>& args);
template <class T>
Status full_in_weight(const FullInWeightArgs<T>& args);

}  // namespace kan_fast
