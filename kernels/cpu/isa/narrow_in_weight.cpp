// `in` and `weight` of narrow layers.
#include "narrow_in_weight.h"

#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_narrow_in_weight(const InWeightTask<T>& task) {
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    return run_for_narrow_layer<NarrowInWeight, T>(task.args->layer, task);
  else
    return false;
}

template bool run_narrow_in_weight(const InWeightTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
