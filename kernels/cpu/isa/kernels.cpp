// The kernels of one instruction set and number type as the entry points see them.
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
KernelSet<T> kernels() {
  KernelSet<T> set{};
  set.vector_bytes = kWidest;
  set.out = run_out<T>;
  set.in_weight = run_in_weight<T>;
  set.unfold = run_unfold<T>;
  set.few_rows = run_few_rows<T>;
  set.gram = run_gram<T>;
  add_full(set);
  return set;
}

KAN_NAMESPACE_END

namespace kan_fast {

#define KAN_CONCAT_(a, b) a##b
#define KAN_CONCAT(a, b) KAN_CONCAT_(a, b)
#define KAN_ENTRY KAN_CONCAT(KAN_ISA, _kernels)
template <>
const KernelSet<KAN_SCALAR>& KAN_ENTRY<KAN_SCALAR>() {
  static const KernelSet<KAN_SCALAR> set = KAN_ISA::kernels<KAN_SCALAR>();
  return set;
}

}  // namespace kan_fast
