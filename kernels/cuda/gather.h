// Contractions by gathering: a pair of a row and an input touches the order + 1 weights of its
// window and the base weight, and nothing else. For grids of any size.
#pragma once

#include "kan_fast/args.h"
#include "window.h"

KAN_NAMESPACE_BEGIN

constexpr int kGatherThreads = 256;
// rows of a tile, of which a thread has four
constexpr int kTileRows = 64;
// outputs of a tile where the weights of an input fit, of which a thread has four; halved until
// they do
constexpr int kTileOutputs = 64;
constexpr int kFewestOutputs = 4;
// inputs of a tile of the backward: rows or outputs times inputs are the threads
constexpr int kTileInputs = 4;
// rows that a tile of S stages at a time
constexpr int kStagedRows = 32;

// What a launch chooses from sizes alone.
struct GatherGeometry {
  int outputs;   // of a tile
  int inputs;    // staged at a time by the forward
  int64_t rows;  // that a tile of S sums up
  int64_t row_parts;
  int64_t shared_bytes;
};

template <class T>
KAN_HD_INLINE T weight_at(const LayerArgs<T>& layer, int64_t o, int64_t i, int g) {
  const int64_t edge = o * layer.in_features + i;
  if (g == layer.table.num_basis)
    return layer.base_weight == nullptr ? T(0) : layer.base_weight[edge];
  const T w = layer.spline_weight[edge * layer.table.num_basis + g];
  return layer.spline_scaler == nullptr ? w : w * layer.spline_scaler[edge];
}

// Functions of a pair: window_start, order + 1 values and the base function, times v if `scaled`.
template <int kOrder, class T>
KAN_HD_INLINE int functions_at(const LayerArgs<T>& layer, int64_t r, int64_t i, int derivative,
                               bool scaled, T* value /* [kOrder + 2] */) {
  const TableView<T>& table = layer.table;
  const T x = layer.x[r * layer.x_row_stride + i * layer.x_col_stride];
  const T* knots = table.knots + table.feature(i) * table.num_knots;
  const int start = basis_window<kOrder>(x, knots, table.num_knots, derivative, value);
  value[kOrder + 1] =
      layer.base_weight == nullptr
          ? T(0)
          : activation_derivative(static_cast<Activation>(layer.activation), x, derivative);
  if (scaled && layer.v != nullptr) {
    const T v = layer.v[r * layer.v_row_stride + i * layer.v_col_stride];
#pragma unroll
    for (int m = 0; m < kOrder + 2; ++m) value[m] *= v;
  }
  return start;
}

KAN_NAMESPACE_END
