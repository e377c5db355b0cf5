// The full bases.
#include "full_tasks.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
void add_full(KernelSet<T>& set) {
  using Full = FullTasks<T>;
  set.full_rows = Full::Tiles::kRows;
  set.full_columns = Full::Tiles::columns;
  set.full_out = Full::out;
  set.full_in_weight = Full::in_weight;
  set.full_norm_input = Full::norm_input;
}

template void add_full(KernelSet<KAN_SCALAR>&);

KAN_NAMESPACE_END
