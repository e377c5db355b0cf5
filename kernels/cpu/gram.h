// The Gram matrix of the basis: what least squares and statistics of edges need of a batch.
#pragma once

#include "entry.h"

namespace kan_fast {

// gram[i,g,h] = sum_r a_g^(da)(x[r,i]) b_h^(db)(x[r,i])                       (docs/math.md, eq. 9)
// z[r,i]      = sum_g sum_h cotangent[i,g,h] a_g^(da)(x[r,i]) b_h^(db)(x[r,i])
//
// a and b are the spline functions of two grids on the same inputs, each followed by the base
// activation. Sums are in double whatever T is. One of `gram` and `z` is null.
template <class T>
struct GramArgs {
  int64_t rows;
  int64_t in_features;
  int activation;
  TableView<T> a, b;
  int derivative_a, derivative_b;
  const T* x;  // [rows, in_features], any strides
  int64_t x_row_stride;
  int64_t x_col_stride;
  double* gram;             // [in_features, num_basis of a + 1, num_basis of b + 1], contiguous
  const double* cotangent;  // the same shape
  T* z;                     // [rows, in_features], contiguous
};

template <class T>
Status gram(const GramArgs<T>& args);

}  // namespace kan_fast
