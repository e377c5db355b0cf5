// What the kernels of narrow layers share: when they run, and how they read weights.
//
// Few outputs cannot pay for sorting the rows; one row a lane needs no order of rows at all.
#pragma once

#include "block.h"
#include "lanes.h"
#include "vector_activation.h"

KAN_NAMESPACE_BEGIN

// with more functions than this the sorted kernels, which touch order + 1 of them, do less work
constexpr int kMostNarrowBasis = 16;

template <class T, int kBytes>
inline bool fits_narrow(const TableView<T>& table) {
  return has_lane_basis<T, kBytes>(table) && table.num_basis <= kMostNarrowBasis;
}

// Weights of a block of inputs as the lookups read them: spline weights [input, output, table],
// base weights [input, output].
template <class T>
struct LaneWeights {
  T* spline;
  T* base;
  int table;  // numbers a table holds
};

template <class T>
inline void pack_lane_weights(const LayerArgs<T>& layer, int64_t in_begin, int num_inputs,
                              const LaneWeights<T>& packed) {
  const int num_basis = layer.table.num_basis;
  const int num_outputs = static_cast<int>(layer.out_features);
  for (int o = 0; o < num_outputs; ++o)
    for (int il = 0; il < num_inputs; ++il) {
      const int64_t edge = o * layer.in_features + in_begin + il;
      const int at = il * num_outputs + o;
      const T scale = layer.spline_scaler != nullptr ? layer.spline_scaler[edge] : T(1);
      const T* from = layer.spline_weight + edge * num_basis;
      T* to = packed.spline + int64_t(at) * packed.table;
      for (int g = 0; g < num_basis; ++g) to[g] = from[g] * scale;
      for (int g = num_basis; g < packed.table; ++g) to[g] = T(0);
      packed.base[at] = layer.base_weight != nullptr ? layer.base_weight[edge] : T(0);
    }
}

KAN_NAMESPACE_END
