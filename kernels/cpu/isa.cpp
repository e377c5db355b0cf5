// The kernels of one instruction set and number type. Built once for each pair, with KAN_ISA and
// KAN_SCALAR naming it; the compiler flags decide how wide a vector is.
#include <type_traits>

#include "contract_in_weight.h"
#include "contract_out.h"
#include "dense_tasks.h"
#include "few_rows.h"
#include "gram_rows.h"
#include "narrow_in_weight.h"
#include "narrow_out.h"

KAN_NAMESPACE_BEGIN

// Calls Kernel<T, bytes, window>::run for a layer: vectors no wider than its outputs, since the
// rest of a wider one would be padding. Orders outside 1..3 get the widest vector only.
template <template <class, int, int> class Kernel, class T, class Task>
bool run_for_layer(const LayerArgs<T>& layer, const Task& task) {
  const int64_t bytes = layer.out_features * int64_t(sizeof(T));
  switch (layer.table.order) {
#define KAN_ORDER(ORDER)                                                         \
  case ORDER:                                                                    \
    if (kWidest > 16 && bytes <= 16) return Kernel<T, 16, ORDER + 1>::run(task); \
    if (kWidest > 32 && bytes <= 32) return Kernel<T, 32, ORDER + 1>::run(task); \
    return Kernel<T, kWidest, ORDER + 1>::run(task);
    KAN_ORDER(1)
    KAN_ORDER(2)
    KAN_ORDER(3)
#undef KAN_ORDER
    case 0:
      return Kernel<T, kWidest, 1>::run(task);
    case 4:
      return Kernel<T, kWidest, 5>::run(task);
    case 5:
      return Kernel<T, kWidest, 6>::run(task);
    case 6:
      return Kernel<T, kWidest, 7>::run(task);
    default:
      return Kernel<T, kWidest, 8>::run(task);
  }
}

// The same for the kernels of narrow layers.
template <template <class, int, int, int, int> class Kernel, class T, class Task>
bool run_for_narrow_layer(const LayerArgs<T>& layer, const Task& task) {
  const int tables = lookup_tables<T, kWidest>(layer.table.num_cells);
  const int weight_tables = lookup_tables<T, kWidest>(layer.table.num_basis);
  switch (layer.table.order) {
#define KAN_ORDER(ORDER)                                                           \
  case ORDER:                                                                      \
    if (tables == 1) return Kernel<T, kWidest, ORDER + 1, 1, 1>::run(task);        \
    if (weight_tables == 1) return Kernel<T, kWidest, ORDER + 1, 2, 1>::run(task); \
    return Kernel<T, kWidest, ORDER + 1, 2, 2>::run(task);
    KAN_ORDER(1)
    KAN_ORDER(2)
    default:
      KAN_ORDER(3)
#undef KAN_ORDER
  }
}

// Up to here one row a lane beats sorting, measured on Zen 4 with AVX-512 and AVX2.
constexpr int64_t kNarrowOutputs = 16;
constexpr int64_t kNarrowEdgeFunctions = 130;

template <class T>
bool run_out(const OutTask<T>& task) {
  const LayerArgs<T>& layer = task.args->layer;
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    if (layer.out_features <= kNarrowOutputs && fits_narrow<T, kWidest>(layer.table))
      return run_for_narrow_layer<NarrowOut, T>(layer, task);
  return run_for_layer<ContractOut, T>(layer, task);
}

template <class T>
bool run_in_weight(const InWeightTask<T>& task) {
  const LayerArgs<T>& layer = task.args->layer;
  if constexpr (lookup_lanes<T, kWidest>() > 0)
    if (layer.out_features * (layer.table.num_basis + 1) <= kNarrowEdgeFunctions &&
        fits_narrow<T, kWidest>(layer.table))
      return run_for_narrow_layer<NarrowInWeight, T>(layer, task);
  return run_for_layer<ContractInWeight, T>(layer, task);
}

template <class T>
bool run_unfold(const UnfoldTask<T>& task) {
  return ContractInWeight<T, kWidest, 1>::unfold(task);
}

// body(order) with the order as a constant.
template <class Body>
auto for_order(int order, const Body& body) {
  switch (order) {
#define KAN_ORDER(ORDER) \
  case ORDER:            \
    return body(std::integral_constant<int, ORDER>{});
    KAN_ORDER(0)
    KAN_ORDER(1)
    KAN_ORDER(2)
    KAN_ORDER(3)
    KAN_ORDER(4)
    KAN_ORDER(5)
    KAN_ORDER(6)
    default:
      KAN_ORDER(7)
#undef KAN_ORDER
  }
}

template <class T>
bool run_few_rows(const OutTask<T>& task) {
  return for_order(task.args->layer.table.order, [&](auto order) {
    return FewRows<T, kWidest, decltype(order)::value + 1>::run(task);
  });
}

template <class T>
void run_gram(const GramArgs<T>& args, int64_t input, int* offset) {
  for_order(args.a.order,
            [&](auto order) { GramRows<T, decltype(order)::value + 1>::run(args, input, offset); });
}

template <class T>
const KernelSet<T>& kernels() {
  using Dense = DenseTasks<T>;
  static const KernelSet<T> set = {
      kWidest,         run_out<T>,       run_in_weight<T>,    run_unfold<T>,
      run_few_rows<T>, run_gram<T>,      Dense::Tiles::kRows, Dense::Tiles::columns,
      Dense::out,      Dense::in_weight, Dense::norm_input};
  return set;
}

KAN_NAMESPACE_END

namespace kan_fast {

#define KAN_CONCAT_(a, b) a##b
#define KAN_CONCAT(a, b) KAN_CONCAT_(a, b)
#define KAN_ENTRY KAN_CONCAT(KAN_ISA, _kernels)
template <>
const KernelSet<KAN_SCALAR>& KAN_ENTRY<KAN_SCALAR>() {
  return KAN_ISA::kernels<KAN_SCALAR>();
}

}  // namespace kan_fast
