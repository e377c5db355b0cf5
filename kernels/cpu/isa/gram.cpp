// The Gram matrix.
#include "gram_rows.h"
#include "isa/run.h"

KAN_NAMESPACE_BEGIN

template <class T>
void run_gram(const GramArgs<T>& args, int64_t input, int* offset) {
  for_window(args.a.order, [&](auto window) { GramRows<T, window()>::run(args, input, offset); });
}

template void run_gram(const GramArgs<KAN_SCALAR>&, int64_t, int*);

KAN_NAMESPACE_END
