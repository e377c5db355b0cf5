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
    for (int64_t k = 0; k < layer.rows * layer.out_features; ++k)
      args.y[k] = args.bias == nullptr ? T(0) : args.bias[k % layer.out_features];
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

namespace {

template <class T>
void clear(const DenseGradients<T>& of) {
  const DenseLayer<T>& layer = of.layer;
  if (of.z != nullptr) std::memset(of.z, 0, sizeof(T) * layer.rows * layer.in_features);
  if (of.grad_weight != nullptr)
    std::memset(of.grad_weight, 0, sizeof(T) * layer.out_features * layer.columns());
}

}  // namespace

template <class T>
Status dense_in_weight(const DenseInWeightArgs<T>& args) {
  const DenseLayer<T>& layer = args.main.layer;
  const int64_t numbers = layer.out_features * layer.columns();
  const int64_t base_numbers = args.has_base ? layer.out_features * args.base.layer.columns() : 0;
  if (is_empty(layer)) {
    clear(args.main);
    if (args.has_base) clear(args.base);
    return Status::kOk;
  }
  T* const grad = args.main.grad_weight;
  T* const base_grad = args.has_base ? args.base.grad_weight : nullptr;
  if (grad != nullptr) prefer_large_pages(grad, sizeof(T) * numbers);
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
  // a vector more: outputs a multiple of 4 KB apart would share the same few lines of L1
  const int64_t stride = tiles * tile + static_cast<int64_t>(lanes);
  const bool reduce = row_parts > 1;
  const int64_t shared =
      stride * layer.out_features + (reduce ? row_parts * (numbers + base_numbers) : 0);
  T* const u = static_cast<T*>(thread_scratch(sizeof(T) * shared, 1));
  if (u == nullptr) return Status::kOutOfMemory;
  T* const partials = u + stride * layer.out_features;
  T* const base_partials = partials + row_parts * numbers;
  const int64_t copies = std::min<int64_t>(threads, tiles);
  parallel_for(copies, threads, [&](int64_t n) {
    const int64_t begin = tiles * n / copies * tile, end = tiles * (n + 1) / copies * tile;
    kernels.dense_columns(args.u + begin * args.u_row_stride, args.u_row_stride, args.u_col_stride,
                          std::min(layer.rows, end) - begin, layer.out_features, u + begin, stride);
    return true;
  });
  const bool good = parallel_for(in_parts * row_parts, threads, [&](int64_t n) {
    const int64_t row_part = n / in_parts, in_part = n % in_parts;
    const int64_t row_begin = tiles * row_part / row_parts * tile;
    const int64_t row_end = std::min(layer.rows, tiles * (row_part + 1) / row_parts * tile);
    const int64_t in_begin = layer.in_features * in_part / in_parts;
    const int64_t in_end = layer.in_features * (in_part + 1) / in_parts;
    const auto share = [&](const DenseGradients<T>& of, T* partial) {
      T* const into = reduce && of.grad_weight != nullptr ? partial : of.grad_weight;
      return kernels.dense_in_weight(of, u, stride, row_begin, row_end, in_begin, in_end, into);
    };
    return share(args.main, partials + row_part * numbers) &&
           (!args.has_base || share(args.base, base_partials + row_part * base_numbers));
  });
  if (!good) return Status::kOutOfMemory;
  const auto add_up = [&](const T* parts, int64_t count, T* into) {
    parallel_for(threads, threads, [&](int64_t n) {
      for (int64_t k = count * n / threads; k < count * (n + 1) / threads; ++k) {
        T sum = parts[k];
        for (int64_t part = 1; part < row_parts; ++part) sum += parts[part * count + k];
        into[k] = sum;
      }
      return true;
    });
  };
  if (reduce && grad != nullptr) add_up(partials, numbers, grad);
  if (reduce && base_grad != nullptr) add_up(base_partials, base_numbers, base_grad);
  return Status::kOk;
}

template Status dense_out(const DenseOutArgs<float>&);
template Status dense_out(const DenseOutArgs<double>&);
template Status dense_in_weight(const DenseInWeightArgs<float>&);
template Status dense_in_weight(const DenseInWeightArgs<double>&);

}  // namespace kan_fast
