// What the kernels of a whole network read.
#pragma once

#include "kan_fast/args.h"

namespace kan_fast {

constexpr int kMostLayers = 8;

// Layers from the first on; x of layer n + 1 is y of layer n. Every layer has the same order, and v
// and derivatives are not used.
template <class T>
struct NetworkArgs {
  int num_layers;
  InWeightArgs<T> of[kMostLayers];  // u of the last, z of the first
  T* y[kMostLayers];                // [rows, out_features]
  T* partial;                       // [blocks, numbers], for the sums over rows of every block
  // zero before and after: the forward sets it, and the backward's last block, which adds up the
  // others' sums where they are few
  int* arrived;
  // of the backward's backward: the gradient of the first layer's z, [rows, in_features], and what
  // comes of it for u, [rows, out_features] of the last; z then is that for x
  const T* t;
  int64_t t_row_stride, t_col_stride;
  T* grad_u;
};

enum class NetworkPass : int { kForward, kBackward, kDoubleBackward };

// Blocks of the launches on a network, and numbers of each in `partial`; 0 blocks where the network
// does not fit into shared memory.
struct NetworkSize {
  int64_t blocks, numbers;
};

}  // namespace kan_fast
