// Folding, packing and unfolding of the parameters, tile by tile.
//
// The kernels read weights as [input, num_basis + 1, outputs] with outputs contiguous and padded to
// whole vectors: the active rows of one cell are neighbours. Users hold [outputs, inputs,
// num_basis].
#pragma once

#include "kan_fast/args.h"
#include "simd.h"

KAN_NAMESPACE_BEGIN

// outputs transposed at a time: one cache line of floats
constexpr int kPackOutputs = 16;

// A block of inputs by a chunk of outputs.
struct WeightBlock {
  int64_t in_begin;
  int num_inputs;
  int64_t out_begin;
  int num_outputs;
  int padded_outputs;  // leading dimension, a multiple of the vector length
};

// W = [scaler * spline_weight | base_weight] of the block; padding is zero.
template <class T>
inline void pack_weights(const LayerArgs<T>& layer, const WeightBlock& block,
                         T* packed /* [num_inputs, num_basis + 1, padded_outputs] */) {
  const int num_basis = layer.table.num_basis;
  const int64_t I = layer.in_features;
  const int ld = block.padded_outputs;
  for (int ob = 0; ob < ld; ob += kPackOutputs) {
    const int width = ld - ob < kPackOutputs ? ld - ob : kPackOutputs;
    const int valid = block.num_outputs - ob < width ? block.num_outputs - ob : width;
    for (int il = 0; il < block.num_inputs; ++il) {
      T* dst = packed + int64_t(il) * (num_basis + 1) * ld + ob;
      const int64_t edge = (block.out_begin + ob) * I + block.in_begin + il;
      T scale[kPackOutputs];
      for (int l = 0; l < valid; ++l)
        scale[l] = layer.spline_scaler != nullptr ? layer.spline_scaler[edge + l * I] : T(1);
      const T* src = layer.spline_weight + edge * num_basis;
      const int64_t stride = I * num_basis;
      if (valid == kPackOutputs) {
        for (int g = 0; g < num_basis; ++g)
          for (int l = 0; l < kPackOutputs; ++l) dst[g * ld + l] = src[l * stride + g] * scale[l];
      } else {
        for (int g = 0; g < num_basis; ++g)
          for (int l = 0; l < width; ++l)
            dst[g * ld + l] = l < valid ? src[l * stride + g] * scale[l] : T(0);
      }
      for (int l = 0; l < width; ++l)
        dst[num_basis * ld + l] =
            layer.base_weight != nullptr && l < valid ? layer.base_weight[edge + l * I] : T(0);
    }
  }
}

// Gradients of the parameters from S, the gradient of the packed block:
// grad_spline_weight = scaler * S, grad_spline_scaler = sum_g spline_weight * S, grad_base_weight.
template <class T>
inline void unfold_gradients(const InWeightArgs<T>& args, const WeightBlock& block,
                             const T* packed /* [num_inputs, num_basis + 1, padded_outputs] */,
                             T* tile /* [kPackOutputs, num_basis] */) {
  const LayerArgs<T>& layer = args.layer;
  const int num_basis = layer.table.num_basis;
  const int64_t I = layer.in_features;
  const int ld = block.padded_outputs;
  for (int ob = 0; ob < block.num_outputs; ob += kPackOutputs) {
    const int width = block.num_outputs - ob < kPackOutputs ? block.num_outputs - ob : kPackOutputs;
    for (int il = 0; il < block.num_inputs; ++il) {
      const T* src = packed + int64_t(il) * (num_basis + 1) * ld + ob;
      const int64_t edge = (block.out_begin + ob) * I + block.in_begin + il;
      if (args.grad_base_weight != nullptr)
        for (int l = 0; l < width; ++l)
          args.grad_base_weight[edge + l * I] = src[num_basis * ld + l];
      if (args.grad_spline_weight == nullptr && args.grad_spline_scaler == nullptr) continue;
      if (width == kPackOutputs) {
        for (int g = 0; g < num_basis; ++g)
          for (int l = 0; l < kPackOutputs; ++l) tile[l * num_basis + g] = src[g * ld + l];
      } else {
        for (int g = 0; g < num_basis; ++g)
          for (int l = 0; l < width; ++l) tile[l * num_basis + g] = src[g * ld + l];
      }
      for (int l = 0; l < width; ++l) {
        const T* s = tile + l * num_basis;
        const int64_t at = (edge + l * I) * num_basis;
        if (args.grad_spline_scaler != nullptr) {
          const T* weight = layer.spline_weight + at;
          T dot = 0;
          for (int g = 0; g < num_basis; ++g) dot += s[g] * weight[g];
          args.grad_spline_scaler[edge + l * I] = dot;
        }
        if (args.grad_spline_weight != nullptr) {
          const T scale = layer.spline_scaler != nullptr ? layer.spline_scaler[edge + l * I] : T(1);
          T* grad = args.grad_spline_weight + at;
          for (int g = 0; g < num_basis; ++g) grad[g] = s[g] * scale;
        }
      }
    }
  }
}

KAN_NAMESPACE_END
