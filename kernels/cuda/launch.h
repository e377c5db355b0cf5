// From arguments to launches: sizes of tiles, shared memory, the order as a constant. The same for
// a device and for the host.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "device_entry.h"
#include "gather_in_weight.h"
#include "gather_out.h"
#include "kan_fast/basis/bspline.h"

namespace kan_fast {

// what every device of compute capability 8.0 and more gives a block that asks
constexpr int64_t kMostShared = 96 * 1024;
// A multiprocessor has so much more than one block may have, and takes as much for itself of each
// block (cudaDevAttrReservedSharedMemoryPerBlock; NVIDIA's tuning guides from Ampere on).
constexpr int64_t kReservedShared = 1024;
// so that two blocks of a forward share a multiprocessor
constexpr int64_t kComfortable = 48 * 1024;
// blocks that keep the largest devices busy
constexpr int64_t kManyBlocks = 528;
// a thread adds up so many rows of S one by one, at least and at most
constexpr int64_t kFewestPartRows = 128, kMostPartRows = 2048;
// of a workspace, 256 MB of float
constexpr int64_t kMostPartials = int64_t{1} << 26;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int tile_outputs(int64_t out_features) {
  int outputs = kTileOutputs;
  while (outputs > kFewestOutputs && outputs / 2 >= out_features) outputs /= 2;
  return outputs;
}

template <class Kernel, class T>
bool out_geometry(const LayerArgs<T>& layer, GatherGeometry& g) {
  const int64_t functions = layer.table.num_basis;
  g.outputs = tile_outputs(layer.out_features);
  g.inputs = static_cast<int>(std::min<int64_t>(8, std::max<int64_t>(1, layer.in_features)));
  while (g.inputs > 1 && Kernel::shared_bytes(functions, g.outputs, g.inputs) > kComfortable)
    g.inputs /= 2;
  while (g.outputs > kFewestOutputs &&
         Kernel::shared_bytes(functions, g.outputs, g.inputs) > kMostShared)
    g.outputs /= 2;
  g.shared_bytes = Kernel::shared_bytes(functions, g.outputs, g.inputs);
  return g.shared_bytes <= kMostShared;
}

// Parts of the rows, of whole multiples of `staged`, for so many tiles of S.
template <class T>
void split_rows(const LayerArgs<T>& layer, int64_t tiles, int staged, GatherGeometry& g) {
  const int64_t numbers = layer.in_features * layer.out_features * (layer.table.num_basis + 1);
  int64_t parts = std::max(ceil_div(kManyBlocks, std::max<int64_t>(1, tiles)),
                           ceil_div(layer.rows, kMostPartRows));
  parts = std::min({parts, ceil_div(layer.rows, kFewestPartRows),
                    kMostPartials / std::max<int64_t>(1, numbers)});
  parts = std::max<int64_t>(1, parts);
  g.rows = std::max<int64_t>(1, ceil_div(ceil_div(layer.rows, parts), staged)) * staged;
  g.row_parts = std::max<int64_t>(1, ceil_div(layer.rows, g.rows));
}

template <class Kernel, class T>
bool in_weight_geometry(const LayerArgs<T>& layer, GatherGeometry& g) {
  const int64_t functions = layer.table.num_basis;
  g.outputs = tile_outputs(layer.out_features);
  g.inputs = kTileInputs;
  while (g.outputs > kFewestOutputs && Kernel::shared_bytes(functions, g.outputs) > kMostShared)
    g.outputs /= 2;
  g.shared_bytes = Kernel::shared_bytes(functions, g.outputs);
  split_rows(layer,
             ceil_div(layer.in_features, kTileInputs) * ceil_div(layer.out_features, g.outputs),
             kStagedRows, g);
  return g.shared_bytes <= kMostShared;
}

// run(order) with the order as a constant, of kOrder to kMost.
template <int kOrder = 0, int kMost = kMaxOrder, class Run>
int with_order(int order, const Run& run) {
  if (order == kOrder) return run(std::integral_constant<int, kOrder>{});
  if constexpr (kOrder < kMost)
    return with_order<kOrder + 1, kMost>(order, run);
  else
    return kTooManyFunctions;
}

template <class Kernel, class Runner>
int launch(const Runner& runner, const typename Kernel::Args& args, const GatherGeometry& g) {
  const int64_t blocks = Kernel::blocks(args, g);
  if (blocks == 0) return kCudaOk;
  if (blocks > std::numeric_limits<int>::max()) return kTooManyBlocks;
  return runner.template run<Kernel>(blocks, args, g);
}

template <class T, class Runner>
int run_gather_out(const OutArgs<T>& args, const Runner& runner) {
  return with_order(args.layer.table.order, [&](auto order) {
    using Kernel = GatherOut<decltype(order)::value, T>;
    GatherGeometry g{};
    if (!out_geometry<Kernel>(args.layer, g)) return int{kTooManyFunctions};
    return launch<Kernel>(runner, args, g);
  });
}

// The launch of a backward, and that of the sum over parts of the rows where there are several.
template <class Kernel, class T, class Runner>
int run_in_weight(const InWeightArgs<T>& args, T* partial, GatherGeometry g, const Runner& runner) {
  const GatherInWeightArgs<T> all{args, partial};
  const int error = launch<Kernel>(runner, all, g);
  if (error != kCudaOk || g.row_parts == 1 || !wants_s(args)) return error;
  g.shared_bytes = 0;
  return launch<UnfoldParts<T>>(runner, all, g);
}

template <class T, class Runner>
int run_gather_in_weight(const InWeightArgs<T>& args, T* partial, const Runner& runner) {
  return with_order(args.layer.table.order, [&](auto order) {
    using Kernel = GatherInWeight<decltype(order)::value, T>;
    GatherGeometry g{};
    if (!in_weight_geometry<Kernel>(args.layer, g)) return int{kTooManyFunctions};
    return run_in_weight<Kernel>(args, partial, g, runner);
  });
}

template <class T>
int64_t numbers_of_parts(const LayerArgs<T>& layer, const GatherGeometry& g) {
  if (g.row_parts <= 1) return 0;
  return g.row_parts * layer.in_features * layer.out_features * (layer.table.num_basis + 1);
}

template <class T>
int64_t partial_numbers(const LayerArgs<T>& layer) {
  GatherGeometry g{};
  with_order(layer.table.order, [&](auto order) {
    in_weight_geometry<GatherInWeight<decltype(order)::value, T>>(layer, g);
    return 0;
  });
  return numbers_of_parts(layer, g);
}

}  // namespace kan_fast
