// A spline layer as Python passes it to every kernel.
#pragma once

#include "bindings.h"

// A layer as Python sees it: addresses (0 means absent), sizes, strides in elements.
struct Layer {
  int64_t rows, in_features, out_features;
  int num_knots, order, activation;
  int64_t knots, x, x_row_stride, x_col_stride, v, v_row_stride, v_col_stride;
  int64_t spline_weight, spline_scaler, base_weight;

  template <class T>
  kan_fast::LayerArgs<T> of(const kan_fast::TableView<T>& table) const {
    return {rows,
            in_features,
            out_features,
            activation,
            table,
            pointer<const T>(x),
            x_row_stride,
            x_col_stride,
            pointer<const T>(v),
            v_row_stride,
            v_col_stride,
            pointer<const T>(spline_weight),
            pointer<const T>(spline_scaler),
            pointer<const T>(base_weight)};
  }
};

#define KAN_LAYER_PARAMETERS                                                              \
  bool is_double, int64_t rows, int64_t in_features, int64_t out_features, int num_knots, \
      int order, int activation, int64_t knots, int64_t x, int64_t x_row_stride,          \
      int64_t x_col_stride, int64_t v, int64_t v_row_stride, int64_t v_col_stride,        \
      int64_t spline_weight, int64_t spline_scaler, int64_t base_weight
#define KAN_LAYER_VALUES                                                                       \
  Layer {                                                                                      \
    rows, in_features, out_features, num_knots, order, activation, knots, x, x_row_stride,     \
        x_col_stride, v, v_row_stride, v_col_stride, spline_weight, spline_scaler, base_weight \
  }

// A backward of a layer: orders of the derivatives for z and for the weights, the gradient of y,
// and where to write which gradients (0 where one is not needed).
struct Gradients {
  int derivative_in, derivative_weight;
  int64_t u, u_row_stride, u_col_stride;
  int64_t z, spline_weight, spline_scaler, base_weight;

  template <class T>
  kan_fast::InWeightArgs<T> of(const kan_fast::LayerArgs<T>& layer) const {
    return {layer,
            derivative_in,
            derivative_weight,
            pointer<const T>(u),
            u_row_stride,
            u_col_stride,
            pointer<T>(z),
            pointer<T>(spline_weight),
            pointer<T>(spline_scaler),
            pointer<T>(base_weight)};
  }
};

#define KAN_GRADIENT_PARAMETERS                                                                    \
  int derivative_in, int derivative_weight, int64_t u, int64_t u_row_stride, int64_t u_col_stride, \
      int64_t z, int64_t grad_spline_weight, int64_t grad_spline_scaler, int64_t grad_base_weight
#define KAN_GRADIENT_VALUES                                                                 \
  Gradients {                                                                               \
    derivative_in, derivative_weight, u, u_row_stride, u_col_stride, z, grad_spline_weight, \
        grad_spline_scaler, grad_base_weight                                                \
  }
