// `out` of any layer.
#include "contract_out.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_out(const OutTask<T>& task) {
  const LayerArgs<T>& layer = task.args->layer;
  // up to here one row a lane beats sorting, measured on Zen 4 with AVX-512 and AVX2
  constexpr int64_t kNarrowOutputs = 16;
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    if (layer.out_features <= kNarrowOutputs && fits_narrow<T, kWidest>(layer.table))
      return run_narrow_out(task);
  return for_window(layer.table.order,
                    [&](auto window) { return ContractOut<T, kWidest, window()>::run(task); });
}

template bool run_out(const OutTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
