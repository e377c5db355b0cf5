// What the parts of a contraction cost.
#pragma once

#include "kan_fast/args.h"

namespace kan_fast {

// Rough costs in cycles, measured on Zen 4 with AVX-512; they only decide how work is split, never
// what is computed.
constexpr double kStageCost = 12;    // a row and input: locate, basis, activation, sort
constexpr double kPackCost = 1.5;    // a packed weight
constexpr double kVectorCost = 6;    // a row, input and vector of outputs
constexpr double kNarrowCost = 0.5;  // a row and edge of a narrow layer
constexpr double kFewCost = 1;       // a row, edge and function, read where the user has it

// Up to here one row a lane beats sorting (isa/out.cpp), measured on Zen 4 with AVX-512 and AVX2.
constexpr int64_t kNarrowOutputs = 16;

// A row and input, staged and contracted once with all outputs.
template <class T>
double pair_cost(const LayerArgs<T>& layer, double lanes) {
  const double outputs = layer.out_features;
  return outputs <= kNarrowOutputs ? outputs * kNarrowCost : (outputs / lanes + 1) * kVectorCost;
}

// A layer whose weights are read where they are.
template <class T>
double few_rows_cost(const LayerArgs<T>& layer) {
  const double edges = double(layer.in_features) * layer.out_features;
  const int window = layer.table.order + 1;
  // four functions are one vector
  return layer.rows *
         (layer.in_features * kStageCost + edges * (window == 4 ? 3 : window + 1) * kFewCost);
}

}  // namespace kan_fast
