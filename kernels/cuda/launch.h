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
#include "mma_in_weight.h"
#include "mma_out.h"
#include "network_backward.h"
#include "pack_weights.h"

namespace kan_fast {

// what every device of compute capability 8.0 and more gives a block that asks
constexpr int64_t kMostShared = 96 * 1024;
// so that two blocks of a forward share a multiprocessor
constexpr int64_t kComfortable = 48 * 1024;
// what one block may have where compute capability is 9.0
constexpr int64_t kMostSharedOf90 = 227 * 1024;
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

// run(product) with what is multiplied as a constant.
template <class Run>
int with_product(Product product, const Run& run) {
  switch (product) {
    case Product::kTf32x3:
      return run(std::integral_constant<Product, Product::kTf32x3>{});
    case Product::kTf32:
      return run(std::integral_constant<Product, Product::kTf32>{});
    case Product::kBf16:
      return run(std::integral_constant<Product, Product::kBf16>{});
    case Product::kF16:
      return run(std::integral_constant<Product, Product::kF16>{});
  }
  return kTooManyFunctions;
}

// Tensor cores have kernels of orders 1 to so many; structured-sparse ones, and those of sm_90a, up
// to 3: wider windows leave little to skip.
constexpr int kMostMmaOrder = 5, kMostSparseOrder = 3;

// Stages of a forward whose stage has so many bytes; 0 where not even one fits.
inline int mma_stages(int64_t bytes, bool wgmma) {
  if (wgmma) return static_cast<int>(std::min<int64_t>(2, kMostSharedOf90 / bytes));
  return 2 * bytes <= 80 * 1024 ? 2 : bytes <= kMostShared;
}

// run(kernel) with a pointer to the forward kernel of a layer and a choice; 0 where there is none.
template <class Run>
int64_t with_mma_out(int order, const MmaChoice& choice, const Run& run) {
  if (order < 1 || order > (choice.sparse || choice.wgmma ? kMostSparseOrder : kMostMmaOrder))
    return 0;
  int64_t found = 0;
  with_order<1, kMostMmaOrder>(order, [&](auto order_is) {
    return with_product(choice.product, [&](auto product_is) {
      constexpr int kOrder = decltype(order_is)::value;
      constexpr Product kProduct = decltype(product_is)::value;
      if constexpr (kOrder <= kMostSparseOrder) {
        if (choice.wgmma && choice.sparse)
          found = run(static_cast<MmaOut<kOrder, kProduct, true, WgmmaTile>*>(nullptr));
        else if (choice.wgmma)
          found = run(static_cast<MmaOut<kOrder, kProduct, false, WgmmaTile>*>(nullptr));
        else if (choice.sparse)
          found = run(static_cast<MmaOut<kOrder, kProduct, true, MmaTile>*>(nullptr));
      }
      if (!choice.wgmma && !choice.sparse)
        found = run(static_cast<MmaOut<kOrder, kProduct, false, MmaTile>*>(nullptr));
      return 0;
    });
  });
  return found;
}

// Words that the weights are packed into; 0 where there is no kernel for the layer.
inline int64_t packed_words(const LayerArgs<float>& layer, const MmaChoice& choice) {
  return with_mma_out(layer.table.order, choice, [&](auto* kernel) -> int64_t {
    using Kernel = std::remove_pointer_t<decltype(kernel)>;
    const MmaLayout layout = mma_layout(layer, choice.product, choice.sparse);
    if (mma_stages(4 * Kernel::stage_words(layout), choice.wgmma) == 0) return 0;
    const PackWeightsArgs pack{layer,          layout,           choice.product,
                               Kernel::kParts, Kernel::kOutputs, nullptr};
    // at least one, to tell it from none
    return std::max<int64_t>(1, Kernel::kParts * PackWeights::words(pack));
  });
}

// Runs on what has kernels of sm_90a are those with `choice.wgmma`, and others on what has not.
template <class Runner>
int run_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
                const Runner& runner) {
  int error = kTooManyFunctions;
  with_mma_out(args.layer.table.order, choice, [&](auto* kernel) -> int64_t {
    using Kernel = std::remove_pointer_t<decltype(kernel)>;
    if constexpr (Runner::template has<Kernel>) {
      const MmaLayout layout = mma_layout(args.layer, choice.product, choice.sparse);
      const int64_t stage_bytes = 4 * Kernel::stage_words(layout);
      const int stages = mma_stages(stage_bytes, choice.wgmma);
      if (stages == 0) return 0;
      GatherGeometry g{};
      error = launch<PackWeights>(
          runner, {args.layer, layout, choice.product, Kernel::kParts, Kernel::kOutputs, packed},
          g);
      g.shared_bytes = stages * stage_bytes;
      if (error == kCudaOk) error = launch<Kernel>(runner, {args, layout, packed, stages}, g);
    }
    return 0;
  });
  return error;
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

// run(kernel, geometry) with a pointer to the backward kernel on tensor cores; kTooManyFunctions
// where there is none.
template <class Run>
int with_mma_in_weight(const LayerArgs<float>& layer, Product product, const Run& run) {
  return with_order<1, kMostMmaOrder>(layer.table.order, [&](auto order) {
    return with_product(product, [&](auto product_is) {
      using Kernel = MmaInWeight<decltype(order)::value, decltype(product_is)::value>;
      if (Kernel::inputs_of(layer) == 0) return int{kTooManyFunctions};
      GatherGeometry g{};
      g.shared_bytes = Kernel::shared_bytes();
      split_rows(layer, int64_t{Kernel::in_tiles(layer)} * Kernel::out_tiles(layer), Kernel::kChunk,
                 g);
      return run(static_cast<Kernel*>(nullptr), g);
    });
  });
}

template <class Runner>
int run_mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial,
                      const Runner& runner) {
  return with_mma_in_weight(args.layer, product, [&](auto* kernel, const GatherGeometry& g) {
    return run_in_weight<std::remove_pointer_t<decltype(kernel)>>(args, partial, g, runner);
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

// -1 where there is no kernel
inline int64_t mma_numbers(const LayerArgs<float>& layer, Product product) {
  int64_t numbers = -1;
  with_mma_in_weight(layer, product, [&](auto*, const GatherGeometry& g) {
    numbers = numbers_of_parts(layer, g);
    return 0;
  });
  return numbers;
}

// so that sizes stay in 32 bits
constexpr int kMostNetworkFunctions = 1024;

// Blocks of a network's launches; 0 where it does not fit.
template <class T>
int64_t network_blocks(const NetworkArgs<T>& args) {
  int64_t bytes = 0;
  if (args.num_layers < 1 || args.num_layers > kMostLayers) return 0;
  for (int n = 0; n < args.num_layers; ++n) {
    const LayerArgs<T>& layer = args.of[n].layer;
    if (layer.in_features < 1 || layer.in_features > kMostWidth || layer.out_features < 1 ||
        layer.out_features > kMostWidth || layer.table.order != args.of[0].layer.table.order ||
        layer.table.num_basis > kMostNetworkFunctions)
      return 0;
  }
  with_order(args.of[0].layer.table.order, [&](auto order) {
    bytes = NetworkBackward<decltype(order)::value, T>::shared_bytes(args);
    return 0;
  });
  if (bytes == 0 || bytes > kMostShared) return 0;
  return std::max<int64_t>(1, std::min<int64_t>(network_tiles(args), kManyBlocks / 2));
}

template <class T, class Runner>
int run_network(const NetworkArgs<T>& args, bool backward, const Runner& runner) {
  GatherGeometry g{};
  g.row_parts = network_blocks(args);
  if (g.row_parts == 0) return kTooManyFunctions;
  return with_order(args.of[0].layer.table.order, [&](auto order) {
    using Forward = NetworkForward<decltype(order)::value, T>;
    using Backward = NetworkBackward<decltype(order)::value, T>;
    if (!backward) {
      g.shared_bytes = Forward::shared_bytes(args);
      return launch<Forward>(runner, args, g);
    }
    g.shared_bytes = Backward::shared_bytes(args);
    const int error = launch<Backward>(runner, args, g);
    if (error != kCudaOk || network_sums_itself(args, g.row_parts)) return error;
    g.shared_bytes = 0;
    return launch<UnfoldNetwork<T>>(runner, args, g);
  });
}

}  // namespace kan_fast
