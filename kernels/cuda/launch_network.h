// Launches of whole small networks.
#pragma once

#include "launch.h"
#include "network_double_backward.h"

namespace kan_fast {

// so that sizes stay in 32 bits
constexpr int kMostNetworkFunctions = 1024;

// Blocks of a network's launches; 0 where it does not fit.
template <class T>
int64_t network_blocks(const NetworkArgs<T>& args, NetworkPass pass) {
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
    constexpr int kOrder = decltype(order)::value;
    // who fits forwards but not backwards would save what nobody can use
    bytes = pass == NetworkPass::kDoubleBackward
                ? NetworkDoubleBackward<kOrder, T>::shared_bytes(args)
                : NetworkBackward<kOrder, T>::shared_bytes(args);
    return 0;
  });
  if (bytes == 0 || bytes > kMostShared) return 0;
  return std::max<int64_t>(1, std::min<int64_t>(network_tiles(args), kManyBlocks / 2));
}

template <class T, class Runner>
int run_network(const NetworkArgs<T>& args, NetworkPass pass, const Runner& runner) {
  GatherGeometry g{};
  g.row_parts = network_blocks(args, pass);
  if (g.row_parts == 0) return kTooManyFunctions;
  return with_order(args.of[0].layer.table.order, [&](auto order) {
    constexpr int kOrder = decltype(order)::value;
    const auto start = [&](auto* kernel) {
      using Kernel = std::remove_pointer_t<decltype(kernel)>;
      g.shared_bytes = Kernel::shared_bytes(args);
      return launch<Kernel>(runner, args, g);
    };
    int error;
    switch (pass) {
      case NetworkPass::kForward:
        return start(static_cast<NetworkForward<kOrder, T>*>(nullptr));
      case NetworkPass::kBackward:
        error = start(static_cast<NetworkBackward<kOrder, T>*>(nullptr));
        break;
      default:
        error = start(static_cast<NetworkDoubleBackward<kOrder, T>*>(nullptr));
    }
    if (error != kCudaOk || network_sums_itself(args, g.row_parts)) return error;
    g.shared_bytes = 0;
    return launch<UnfoldNetwork<T>>(runner, args, g);
  });
}

}  // namespace kan_fast
