// Folding, packing and unfolding of the parameters, tile by tile.
//
// The kernels read weights as [input, num_basis + 1, outputs] with outputs contiguous and padded to
// whole vectors: the active rows of one cell are neighbours. Users hold [outputs, inputs,
// num_basis].
#pragma once

#include "kan_fast/args.h"
#include "simd.h"

KAN_NAMESPACE_BEGIN

// outputs and inputs that share cache lines while a tile is transposed
constexpr int kPackOutputs = 16;
constexpr int kMostInputs = 16;

// A block of inputs by a chunk of outputs.
struct WeightBlock {
  int64_t in_begin;
  int num_inputs;  // at most kMostInputs
  int64_t out_begin;
  int num_outputs;
  int padded_outputs;  // leading dimension, a multiple of the vector length
};

// Per-edge numbers of `width` outputs: dst[il, l] = src[out_begin + ob + l, in_begin + il], or
// `fill`.
template <class T>
inline void load_edges(const T* src, const LayerArgs<T>& layer, const WeightBlock& block, int ob,
                       int width, T fill, T* dst, int64_t dst_stride) {
  if (src != nullptr) {
    const int64_t edge = (block.out_begin + ob) * layer.in_features + block.in_begin;
    transpose(src + edge, layer.in_features, width, block.num_inputs, dst, dst_stride);
    return;
  }
  for (int il = 0; il < block.num_inputs; ++il)
    for (int l = 0; l < width; ++l) dst[il * dst_stride + l] = fill;
}

// W = [scaler * spline_weight | base_weight] of the block; padding is zero.
template <class T>
inline void pack_weights(const LayerArgs<T>& layer, const WeightBlock& block,
                         T* packed /* [num_inputs, num_basis + 1, padded_outputs] */) {
  using X = typename Quad<T>::X;
  const int num_basis = layer.table.num_basis;
  const int64_t I = layer.in_features;
  const int64_t stride = I * num_basis;
  const int ld = block.padded_outputs;
  const int64_t next_input = int64_t(num_basis + 1) * ld;
  T scale[kMostInputs * kPackOutputs];
  for (int ob = 0; ob < block.num_outputs; ob += kPackOutputs) {
    const int left = block.num_outputs - ob;
    const int width = left < kPackOutputs ? left : kPackOutputs;
    load_edges(layer.spline_scaler, layer, block, ob, width, T(1), scale, kPackOutputs);
    load_edges(layer.base_weight, layer, block, ob, width, T(0), packed + num_basis * ld + ob,
               next_input);
    const T* rows = layer.spline_weight + ((block.out_begin + ob) * I + block.in_begin) * num_basis;
    const int whole_basis = num_basis / 4 * 4;
    const int whole_width = width / 4 * 4;
    for (int il = 0; il < block.num_inputs; ++il) {
      const T* src = rows + il * num_basis;
      const T* factor = scale + il * kPackOutputs;
      T* dst = packed + il * next_input + ob;
      // the runs of different outputs are far apart: ask for the next tile's while this one is
      // packed
      for (int l = 0; l < kPackOutputs; ++l) __builtin_prefetch(src + (l + kPackOutputs) * stride);
      for (int l = 0; l < whole_width; l += 4) {
        const typename Quad<T>::V f = X::load(factor + l);
        for (int g = 0; g < whole_basis; g += 4) {
          Quad<T> quad = Quad<T>::load(src + l * stride + g, stride).transposed();
          for (int n = 0; n < 4; ++n) quad.row[n] *= f;
          quad.store(dst + g * ld + l, ld);
        }
      }
      for (int l = 0; l < width; ++l)
        for (int g = l < whole_width ? whole_basis : 0; g < num_basis; ++g)
          dst[g * ld + l] = src[l * stride + g] * factor[l];
    }
  }
  for (int64_t n = 0; n < int64_t(block.num_inputs) * (num_basis + 1); ++n)
    for (int o = block.num_outputs; o < ld; ++o) packed[n * ld + o] = T(0);
}

// One edge: its gradients from its K numbers of S.
template <class T>
inline void unfold_edge(const InWeightArgs<T>& args, int64_t edge, const T* s /* [num_basis] */) {
  using X = typename Quad<T>::X;
  const LayerArgs<T>& layer = args.layer;
  const int num_basis = layer.table.num_basis;
  const int whole = num_basis / 4 * 4;
  if (args.grad_spline_scaler != nullptr) {
    const T* weight = layer.spline_weight + edge * num_basis;
    typename X::V dots = {};
    for (int g = 0; g < whole; g += 4) dots += X::load(s + g) * X::load(weight + g);
    T dot = X::sum(dots);
    for (int g = whole; g < num_basis; ++g) dot += s[g] * weight[g];
    args.grad_spline_scaler[edge] = dot;
  }
  if (args.grad_spline_weight != nullptr) {
    const T scale = layer.spline_scaler != nullptr ? layer.spline_scaler[edge] : T(1);
    T* grad = args.grad_spline_weight + edge * num_basis;
    for (int g = 0; g < whole; g += 4) X::store(grad + g, X::load(s + g) * scale);
    for (int g = whole; g < num_basis; ++g) grad[g] = s[g] * scale;
  }
}

// Gradients of the parameters from S, the gradient of the packed block (docs/math.md, eq. 8):
// grad_spline_weight = scaler * S, grad_spline_scaler = sum_g spline_weight * S, grad_base_weight.
template <class T>
inline void unfold_gradients(const InWeightArgs<T>& args, const WeightBlock& block,
                             const T* packed /* [num_inputs, num_basis + 1, padded_outputs] */,
                             T* tile /* [kPackOutputs, num_inputs, num_basis] */) {
  const LayerArgs<T>& layer = args.layer;
  const int num_basis = layer.table.num_basis;
  const int64_t I = layer.in_features;
  const int ld = block.padded_outputs;
  const int64_t next_input = int64_t(num_basis + 1) * ld;
  const int run = block.num_inputs * num_basis;
  for (int ob = 0; ob < block.num_outputs; ob += kPackOutputs) {
    const int left = block.num_outputs - ob;
    const int width = left < kPackOutputs ? left : kPackOutputs;
    const int64_t edge = (block.out_begin + ob) * I + block.in_begin;
    if (args.grad_base_weight != nullptr)
      transpose(packed + num_basis * ld + ob, next_input, block.num_inputs, width,
                args.grad_base_weight + edge, I);
    if (args.grad_spline_weight == nullptr && args.grad_spline_scaler == nullptr) continue;
    for (int il = 0; il < block.num_inputs; ++il)
      transpose(packed + il * next_input + ob, ld, num_basis, width, tile + il * num_basis, run);
    for (int l = 0; l < width; ++l) {
      // the run of an output is far from the one before: ask for that of the next tile
      const int64_t next = (edge + (l + kPackOutputs) * I) * num_basis;
      for (int n = 0; n < run; n += 64 / int(sizeof(T))) {
        __builtin_prefetch(layer.spline_weight + next + n);
        if (args.grad_spline_weight != nullptr)
          __builtin_prefetch(args.grad_spline_weight + next + n, 1);
      }
      for (int il = 0; il < block.num_inputs; ++il)
        unfold_edge(args, edge + l * I + il, tile + l * run + il * num_basis);
    }
  }
}

KAN_NAMESPACE_END
