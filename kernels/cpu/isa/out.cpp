// `out` of any layer.
#include "contract_out.h"
#include "costs.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_out(const OutTask<T>& task) {
  const LayerArgs<T>& layer = task.args->layer;
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    if (layer.out_features <= kNarrowOutputs && fits_narrow<T, kWidest>(layer.table))
      return run_narrow_out(task);
  return for_window(layer.table.order,
                    [&](auto window) { return ContractOut<T, kWidest, window()>::run(task); });
}

template bool run_out(const OutTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
