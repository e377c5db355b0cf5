#include "dense.h"

#include <algorithm>
#include <cstring>

#include "pages.h"
#include "parallel.h"
#include "tasks.h"

namespace kan_fast {
namespace {

// Cycles of a row and input with all outputs, measured on Zen 4 with AVX-512: they only decide how
// work is split.
template <class T>
double pair_cost(const DenseLayer<T>& layer, double lanes) {
  return layer.num_basis * (2 + layer.out_features / lanes);
}

template <class T>
bool is_empty(const DenseLayer<T>& layer) {
  return layer.rows == 0 || layer.out_features == 0 || layer.columns() == 0;
}

}  // namespace

template <class T>
Status dense_out(const DenseOutArgs<T>& args) {
  const DenseLayer<T>& layer = args.layer;
  if (is_empty(layer)) {
    std::memset(args.y, 0, sizeof(T) * layer.rows * layer.out_features);
    return Status::kOk;
  }
  const KernelSet<T>& kernels = current_kernels<T>();
  const double lanes = kernels.vector_bytes / sizeof(T);
  const int threads =
      useful_threads(double(layer.rows) * layer.in_features * pair_cost(layer, lanes));
  // shares of whole vectors: what is short of a tile is computed all the same
  const int64_t unit = kernels.vector_bytes / sizeof(T);
  const int64_t units = (layer.rows + unit - 1) / unit;
  const int64_t parts = std::min<int64_t>(threads, units);
  const bool good = parallel_for(parts, threads, [&](int64_t n) {
    return kernels.dense_out(args, units * n / parts * unit,
                             std::min(layer.rows, units * (n + 1) / parts * unit));
  });
  return good ? Status::kOk : Status::kOutOfMemory;
}

template <class T>
Status dense_in_weight(const DenseInWeightArgs<T>& args) {
  const DenseLayer<T>& layer = args.layer;
  const int64_t numbers = layer.out_features * layer.columns();
  if (is_empty(layer)) {
    if (args.z != nullptr) std::memset(args.z, 0, sizeof(T) * layer.rows * layer.in_features);
    if (args.grad_weight != nullptr) std::memset(args.grad_weight, 0, sizeof(T) * numbers);
    return Status::kOk;
  }
  if (args.grad_weight != nullptr) prefer_large_pages(args.grad_weight, sizeof(T) * numbers);
  const KernelSet<T>& kernels = current_kernels<T>();
  const double lanes = kernels.vector_bytes / sizeof(T);
  const int threads =
      useful_threads(2 * double(layer.rows) * layer.in_features * pair_cost(layer, lanes));
  // inputs first: then nobody shares a sum. Few inputs and many rows: shares of rows as well, each
  // with its own S, added up in order afterwards
  constexpr int64_t kFewestRows = 512;
  const int64_t in_parts = std::min<int64_t>(threads, layer.in_features);
  const int64_t row_parts =
      std::max<int64_t>(1, std::min(threads / in_parts, layer.rows / kFewestRows));
  const int64_t tile = kernels.dense_rows;
  const int64_t tiles = (layer.rows + tile - 1) / tile;
  const int64_t stride = tiles * tile;
  const bool reduce = args.grad_weight != nullptr && row_parts > 1;
  const int64_t shared = stride * layer.out_features + (reduce ? row_parts * numbers : 0);
  T* const u = static_cast<T*>(thread_scratch(sizeof(T) * shared, 1));
  if (u == nullptr) return Status::kOutOfMemory;
  T* const partials = u + stride * layer.out_features;
  parallel_for(std::min<int64_t>(threads, tiles), threads, [&](int64_t n) {
    const int64_t parts = std::min<int64_t>(threads, tiles);
    const int64_t begin = tiles * n / parts * tile, end = tiles * (n + 1) / parts * tile;
    kernels.dense_columns(args.u + begin * args.u_row_stride, args.u_row_stride, args.u_col_stride,
                          std::min(layer.rows, end) - begin, layer.out_features, u + begin, stride);
    return true;
  });
  const bool good = parallel_for(in_parts * row_parts, threads, [&](int64_t n) {
    const int64_t row_part = n / in_parts, in_part = n % in_parts;
    T* grad = args.grad_weight;
    if (reduce) grad = partials + row_part * numbers;
    return kernels.dense_in_weight(args, u, stride, tiles * row_part / row_parts * tile,
                                   std::min(layer.rows, tiles * (row_part + 1) / row_parts * tile),
                                   layer.in_features * in_part / in_parts,
                                   layer.in_features * (in_part + 1) / in_parts, grad);
  });
  if (!good) return Status::kOutOfMemory;
  if (reduce)
    parallel_for(threads, threads, [&](int64_t n) {
      for (int64_t k = numbers * n / threads; k < numbers * (n + 1) / threads; ++k) {
        T sum = partials[k];
        for (int64_t part = 1; part < row_parts; ++part) sum += partials[part * numbers + k];
        args.grad_weight[k] = sum;
      }
      return true;
    });
  return Status::kOk;
}

template Status dense_out(const DenseOutArgs<float>&);
template Status dense_out(const DenseOutArgs<double>&);
template Status dense_in_weight(const DenseInWeightArgs<float>&);
template Status dense_in_weight(const DenseInWeightArgs<double>&);

}  // namespace kan_fast
