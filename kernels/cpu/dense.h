// Families whose functions are all active everywhere: values of a block, for a matrix product.
#pragma once

#include "entry.h"

namespace kan_fast {

enum class Family : int { kGaussianRbf = 0, kChebyshev = 1 };

// phi[r, i, g] = v[r,i] b_g^(d)(x[r,i])                                      (docs/math.md, eq. 13)
// or, where z is not null, with phi as an input:
// z[r,i] = sum_g phi[r, i, g] b_g^(d)(x[r,i])                                (docs/math.md, eq. 14)
template <class T>
struct DenseArgs {
  int64_t rows, in_features;
  int family;  // kan_fast::Family
  int num_basis;
  int derivative;
  double width;      // of the Gaussians
  const T* centers;  // [num_basis] of the Gaussians; null otherwise
  const T* x;        // [rows, in_features], any strides
  int64_t x_row_stride, x_col_stride;
  const T* v;  // the same; null means ones
  int64_t v_row_stride, v_col_stride;
  T* phi;  // [rows, in_features, num_basis], rows contiguous
  int64_t phi_row_stride;
  T* z;  // [rows, in_features], rows contiguous
  int64_t z_row_stride;
};

template <class T>
Status dense(const DenseArgs<T>& args);

}  // namespace kan_fast
