// The dense families.
#include "dense_tasks.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
void add_dense(KernelSet<T>& set) {
  using Dense = DenseTasks<T>;
  set.dense_rows = Dense::Tiles::kRows;
  set.dense_columns = Dense::Tiles::columns;
  set.dense_out = Dense::out;
  set.dense_in_weight = Dense::in_weight;
  set.dense_norm_input = Dense::norm_input;
}

template void add_dense(KernelSet<KAN_SCALAR>&);

KAN_NAMESPACE_END
