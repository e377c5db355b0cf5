// `in` and `weight` of any layer.
#include "contract_in_weight.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_in_weight(const InWeightTask<T>& task) {
  const LayerArgs<T>& layer = task.args->layer;
  // up to here one row a lane beats sorting, measured on Zen 4 with AVX-512 and AVX2
  constexpr int64_t kNarrowEdgeFunctions = 130;
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    if (layer.out_features * (layer.table.num_basis + 1) <= kNarrowEdgeFunctions &&
        fits_narrow<T, kWidest>(layer.table))
      return run_narrow_in_weight(task);
  return for_window(layer.table.order,
                    [&](auto window) { return ContractInWeight<T, kWidest, window()>::run(task); });
}

template <class T>
bool run_unfold(const UnfoldTask<T>& task) {
  return ContractInWeight<T, kWidest, 2>::unfold(task);
}

template bool run_in_weight(const InWeightTask<KAN_SCALAR>&);
template bool run_unfold(const UnfoldTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
