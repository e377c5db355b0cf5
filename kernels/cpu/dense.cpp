#include "dense.h"

#include <omp.h>

#include "tasks.h"

namespace kan_fast {

template <class T>
Status dense(const DenseArgs<T>& given) {
  DenseArgs<T> args = given;
  if (args.rows == 0 || args.in_features == 0 || args.num_basis == 0) return Status::kOk;
  // one long row where rows follow each other: narrow layers fill their lanes
  const bool flat =
      args.x_col_stride == 1 && args.x_row_stride == args.in_features &&
      args.phi_row_stride == args.in_features * args.num_basis &&
      (args.z == nullptr || args.z_row_stride == args.in_features) &&
      (args.v == nullptr || (args.v_col_stride == 1 && args.v_row_stride == args.in_features));
  if (flat) {
    args.in_features *= args.rows;
    args.rows = 1;
  }
  const KernelSet<T>& kernels = current_kernels<T>();
  const int64_t lanes = kernels.vector_bytes / sizeof(T);
  // measured on Zen 4 with AVX-512: a value takes about a cycle
  const int threads = useful_threads(double(args.rows) * args.in_features * args.num_basis);
  // shares of a row are whole vectors
  const int64_t vectors = (args.in_features + lanes - 1) / lanes;
  const int64_t parts = threads > args.rows ? (threads < vectors ? threads : vectors) : 1;
  bool good = true;
#pragma omp parallel num_threads(threads) reduction(&& : good)
  {
    T* scratch = static_cast<T*>(thread_scratch(sizeof(T) * 2 * args.num_basis * lanes));
    good = scratch != nullptr;
#pragma omp for schedule(static)
    for (int64_t n = 0; n < args.rows * parts; ++n) {
      const int64_t begin = vectors * (n % parts) / parts * lanes;
      const int64_t end = vectors * (n % parts + 1) / parts * lanes;
      if (scratch != nullptr)
        kernels.dense(args, n / parts, begin, end < args.in_features ? end : args.in_features,
                      scratch);
    }
  }
  return good ? Status::kOk : Status::kOutOfMemory;
}

template Status dense(const DenseArgs<float>&);
template Status dense(const DenseArgs<double>&);

}  // namespace kan_fast
