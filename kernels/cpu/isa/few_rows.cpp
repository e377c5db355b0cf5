// `out` of a handful of rows.
#include "few_rows.h"

#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_few_rows(const OutTask<T>& task) {
  return for_window(task.args->layer.table.order,
                    [&](auto window) { return FewRows<T, kWidest, window()>::run(task); });
}

template bool run_few_rows(const OutTask<KAN_SCALAR>&);

KAN_NAMESPACE_END
