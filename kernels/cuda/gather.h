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

// Functions of input i at x: order + 1 values of the window and the base function. Returns what
// `basis_window` does.
template <int kOrder, class T>
KAN_HD_INLINE int functions_of(const LayerArgs<T>& layer, int64_t i, T x, int derivative,
                               T* value /* [kOrder + 2] */) {
  const TableView<T>& table = layer.table;
  const T* knots = table.knots + table.feature(i) * table.num_knots;
  const int start = basis_window<kOrder>(x, knots, table.num_knots, derivative, value);
  value[kOrder + 1] =
      layer.base_weight == nullptr
          ? T(0)
          : activation_derivative(static_cast<Activation>(layer.activation), x, derivative);
  return start;
}

template <class T>
KAN_HD_INLINE T input_at(const LayerArgs<T>& layer, int64_t r, int64_t i) {
  return layer.x[r * layer.x_row_stride + i * layer.x_col_stride];
}

// Those of a pair of a row and an input, times v if `scaled`.
template <int kOrder, class T>
KAN_HD_INLINE int functions_at(const LayerArgs<T>& layer, int64_t r, int64_t i, int derivative,
                               bool scaled, T* value /* [kOrder + 2] */) {
  const int start = functions_of<kOrder>(layer, i, input_at(layer, r, i), derivative, value);
  if (scaled && layer.v != nullptr) {
    const T v = layer.v[r * layer.v_row_stride + i * layer.v_col_stride];
#pragma unroll
    for (int m = 0; m < kOrder + 2; ++m) value[m] *= v;
  }
  return start;
}

// What a row adds to the sums S of an edge, `mine` [num_basis + 1] with `stride` between functions;
// `base` is kept apart, in a register.
template <int kOrder, class T>
KAN_HD_INLINE void add_to_edge(T cotangent, int start, const T* value, int value_stride,
                               int columns, int stride, T* mine, T& base) {
  if (start == kNoWindow) {
    for (int c = 0; c + 1 < columns; ++c) mine[c * stride] += cotangent * value[0];
  } else {
#pragma unroll
    for (int m = 0; m <= kOrder; ++m)
      mine[(start + m) * stride] += cotangent * value[m * value_stride];
  }
  base += cotangent * value[(kOrder + 1) * value_stride];
}

KAN_NAMESPACE_END
