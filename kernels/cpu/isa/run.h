// What the units of one instruction set and number type offer to each other. Every file of this
// folder is built once for each pair, with KAN_ISA and KAN_SCALAR naming it; the compiler flags
// decide how wide a vector is.
#pragma once

#include "narrow.h"
#include "tasks.h"

KAN_NAMESPACE_BEGIN

template <class T>
bool run_out(const OutTask<T>& task);
template <class T>
bool run_in_weight(const InWeightTask<T>& task);
template <class T>
bool run_unfold(const UnfoldTask<T>& task);
template <class T>
bool run_few_rows(const OutTask<T>& task);
template <class T>
void run_gram(const GramArgs<T>& args, int64_t input, int* offset);

// The kernels of narrow layers, for grids that fit them; where there are no lookups they are not
// built.
template <class T>
bool run_narrow_out(const OutTask<T>& task);
template <class T>
bool run_narrow_in_weight(const InWeightTask<T>& task);

// The full bases' part of the set.
template <class T>
void add_full(KernelSet<T>& set);

// Calls Kernel<T, kWidest, window, tables, weight_tables>::run for a narrow layer: by its order,
// and by the vectors that its cells and its weights take.
template <template <class, int, int, int, int> class Kernel, class T, class Task>
bool run_for_narrow_layer(const LayerArgs<T>& layer, const Task& task) {
  const int tables = lookup_tables<T, kWidest>(layer.table.num_cells);
  const int weight_tables = lookup_tables<T, kWidest>(layer.table.num_basis);
  return for_window(layer.table.order, [&](auto window) {
    if constexpr (window() != kAnyWindow) {
      if (tables == 1) return Kernel<T, kWidest, window(), 1, 1>::run(task);
      if constexpr (lookup_lanes<T, kWidest>() < kMostNarrowBasis)
        if (weight_tables == 2) return Kernel<T, kWidest, window(), 2, 2>::run(task);
      return Kernel<T, kWidest, window(), 2, 1>::run(task);
    } else {
      return false;  // fits_narrow has said so
    }
  });
}

KAN_NAMESPACE_END
