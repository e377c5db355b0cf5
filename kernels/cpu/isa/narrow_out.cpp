// `out` of narrow layers.
#include "narrow_out.h"

#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_narrow_out(const OutTask<T>& task) {
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    return run_for_narrow_layer<NarrowOut, T>(task.args->layer, task);
  else
    return false;
}

template bool run_narrow_out(const OutTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
