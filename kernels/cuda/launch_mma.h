// Launches of the kernels on tensor cores.
#pragma once

#include "launch.h"
#include "mma_in_weight.h"
#include "mma_out.h"
#include "pack_weights.h"

namespace kan_fast {

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

// Tensor cores have kernels of orders 1 to so many: wider windows leave little to skip, and
// networks that have them are small.
constexpr int kMostMmaOrder = 3;

// Stages of a forward whose stage has so many bytes; 0 where not even one fits. Two, if two such
// blocks share a multiprocessor: they overlap, too. wgmma's blocks are alone.
inline int64_t mma_stages(int64_t bytes, const MmaChoice& choice) {
  if (choice.wgmma) return std::min<int64_t>(2, choice.most_shared / bytes);
  if (bytes > choice.most_shared) return 0;
  return 4 * bytes + kReservedShared <= choice.most_shared ? 2 : 1;
}

// run(kernel) with a pointer to the forward kernel of a layer and a choice; 0 where there is none.
template <class Run>
int64_t with_mma_out(int order, const MmaChoice& choice, const Run& run) {
  int64_t found = 0;
  with_order<1, kMostMmaOrder>(order, [&](auto order_is) {
    return with_product(choice.product, [&](auto product_is) {
      constexpr int kOrder = decltype(order_is)::value;
      constexpr Product kProduct = decltype(product_is)::value;
      if (choice.wgmma && choice.sparse)
        found = run(static_cast<MmaOut<kOrder, kProduct, true, WgmmaTile>*>(nullptr));
      else if (choice.wgmma)
        found = run(static_cast<MmaOut<kOrder, kProduct, false, WgmmaTile>*>(nullptr));
      else if (choice.sparse)
        found = run(static_cast<MmaOut<kOrder, kProduct, true, TallMmaTile>*>(nullptr));
      else
        found = run(static_cast<MmaOut<kOrder, kProduct, false, TallMmaTile>*>(nullptr));
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
    if (mma_stages(4 * Kernel::stage_words(layout), choice) == 0) return 0;
    const PackWeightsArgs pack{layer,          layout,           choice.product,
                               Kernel::kParts, Kernel::kOutputs, nullptr};
    // at least one, to tell it from none
    return std::max<int64_t>(1, Kernel::kParts * PackWeights::words(pack));
  });
}

// A runner has either the kernels of wgmma or all others, and those of the other kind are not even
// instantiated for it.
template <class Runner>
int run_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
                const Runner& runner) {
  int error = kTooManyFunctions;
  with_mma_out(args.layer.table.order, choice, [&](auto* kernel) -> int64_t {
    using Kernel = std::remove_pointer_t<decltype(kernel)>;
    if constexpr (Runner::template has<Kernel>) {
      const MmaLayout layout = mma_layout(args.layer, choice.product, choice.sparse);
      const int64_t stage_bytes = 4 * Kernel::stage_words(layout);
      const int stages = static_cast<int>(mma_stages(stage_bytes, choice));
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

// -1 where there is no kernel
inline int64_t mma_numbers(const LayerArgs<float>& layer, Product product) {
  int64_t numbers = -1;
  with_mma_in_weight(layer, product, [&](auto*, const GatherGeometry& g) {
    numbers = numbers_of_parts(layer, g);
    return 0;
  });
  return numbers;
}

}  // namespace kan_fast
