// Plain argument structs of the kernels. Every pointer carries its shape; strides are in elements.
#pragma once

#include <cstdint>

#include "kan_fast/platform.h"

namespace kan_fast {

// The cell polynomials of a grid, built once and shared by every call on that grid.
//
// num_features is 1 when all inputs share one row of knots: then the table fits in L1.
template <class T>
struct TableView {
  int64_t num_features;
  int num_knots;
  int order;
  int num_basis;  // num_knots - 1 - order
  int num_cells;  // num_knots - 1
  bool uniform;
  int cell_stride;  // num_cells rounded up to kCellUnit: whole vectors can be looked up in
  const T* knots;   // [num_features, num_knots]
  // [num_features, 3 + (order + 1)^3, cell_stride], numbers of a cell by kind: left edge, right
  // edge, 1 / width (0 for a cell of zero width), then the polynomial coefficients
  // [derivative, function, power]
  const T* by_cell;

  KAN_HD int64_t feature(int64_t input) const { return num_features == 1 ? 0 : input; }
  const T* cells(int64_t feature) const {
    const int width = order + 1;
    return by_cell + feature * (3 + width * width * width) * cell_stride;
  }
  const T* left(int64_t feature) const { return cells(feature); }
  const T* right(int64_t feature) const { return cells(feature) + cell_stride; }
  const T* inv_width(int64_t feature) const { return cells(feature) + 2 * cell_stride; }
  // [function, power of u, cell_stride] of one derivative (kan_fast/basis/bspline.h)
  const T* coef(int64_t feature, int derivative) const {
    const int width = order + 1;
    return cells(feature) + (3 + derivative * width * width) * cell_stride;
  }
};

constexpr int kCellUnit = 16;

// What every contraction reads. W = [scaler * spline_weight | base_weight].
template <class T>
struct LayerArgs {
  int64_t rows;
  int64_t in_features;
  int64_t out_features;
  int activation;  // kan_fast::Activation
  TableView<T> table;
  const T* x;  // [rows, in_features], any strides
  int64_t x_row_stride;
  int64_t x_col_stride;
  const T* v;  // [rows, in_features], any strides; null means ones
  int64_t v_row_stride;
  int64_t v_col_stride;
  const T* spline_weight;  // [out_features, in_features, num_basis], contiguous
  const T* spline_scaler;  // [out_features, in_features], contiguous; null means ones
  const T* base_weight;    // [out_features, in_features], contiguous; null means zeros
};

// y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i])                       (docs/math.md, eq. 5)
template <class T>
struct OutArgs {
  LayerArgs<T> layer;
  int derivative;
  T* y;  // [rows, out_features], contiguous
};

// z[r,i] = sum_o u[r,o] sum_g W[o,i,g] b_g^(d_in)(x[r,i])                    (docs/math.md, eq. 6)
// S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d_weight)(x[r,i])                      (docs/math.md, eq. 7)
// and S unfolded to the parameters: grad_spline_weight = scaler * S, grad_spline_scaler = sum_g
// spline_weight * S, grad_base_weight = S of the base column. A null output is not computed.
template <class T>
struct InWeightArgs {
  LayerArgs<T> layer;
  int derivative_in;
  int derivative_weight;
  const T* u;  // [rows, out_features], any strides
  int64_t u_row_stride;
  int64_t u_col_stride;
  T* z;                   // [rows, in_features], contiguous
  T* grad_spline_weight;  // [out_features, in_features, num_basis], contiguous
  T* grad_spline_scaler;  // [out_features, in_features], contiguous
  T* grad_base_weight;    // [out_features, in_features], contiguous
};

}  // namespace kan_fast
