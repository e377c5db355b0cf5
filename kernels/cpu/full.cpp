#include "full.h"

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
double pair_cost(const FullLayer<T>& layer, double lanes) {
  return layer.num_basis * (2 + layer.out_features / lanes);
}

template <class T>
bool is_empty(const FullLayer<T>& layer) {
  return layer.rows == 0 || layer.out_features == 0 || layer.columns() == 0;
}

}  // namespace

template <class T>
Status full_out(const FullOutArgs<T>& args) {
  const FullLayer<T>& layer = args.layer;
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
    return kernels.full_out(args, units * n / parts * unit,
                            std::min(layer.rows, units * (n + 1) / parts * unit));
  });
  return good ? Status::kOk : Status::kOutOfMemory;
}

namespace {

template <class T>
void clear(const FullGradients<T>& of) {
  const FullLayer<T>& layer = of.layer;
  if (of.z != nullptr && !of.add) std::memset(of.z, 0, sizeof(T) * layer.rows * layer.in_features);
  if (of.grad_weight != nullptr)
    std::memset(of.grad_weight, 0, sizeof(T) * layer.out_features * layer.columns());
  if (of.grad_norm != nullptr) std::memset(of.grad_norm, 0, sizeof(T) * 2 * layer.in_features);
}

// A sum over rows: where it goes, and every part's own memory for it where there are several.
template <class T>
struct RowSum {
  T* into;
  int64_t numbers;
  T* parts = nullptr;

  T* part(int64_t n) const {
    return into == nullptr || parts == nullptr ? into : parts + n * numbers;
  }

  void add_up(int64_t row_parts, int threads) const {
    if (into == nullptr || parts == nullptr) return;
    parallel_for(threads, threads, [&](int64_t n) {
      for (int64_t k = numbers * n / threads; k < numbers * (n + 1) / threads; ++k) {
        T sum = parts[k];
        for (int64_t part = 1; part < row_parts; ++part) sum += parts[part * numbers + k];
        into[k] = sum;
      }
      return true;
    });
  }
};

}  // namespace

template <class T>
Status full_in_weight(const FullInWeightArgs<T>& args) {
  const FullLayer<T>& layer = args.main.layer;
  const int64_t numbers = layer.out_features * layer.columns();
  if (is_empty(layer)) {
    clear(args.main);
    if (args.has_base) clear(args.base);
    return Status::kOk;
  }
  if (args.main.grad_weight != nullptr)
    prefer_large_pages(args.main.grad_weight, sizeof(T) * numbers);
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
  const int64_t tile = kernels.full_rows;
  const int64_t tiles = (layer.rows + tile - 1) / tile;
  // a vector more: outputs a multiple of 4 KB apart would share the same few lines of L1
  const int64_t stride = tiles * tile + static_cast<int64_t>(lanes);
  const bool norm = layer.has_norm() && args.main.reads_weights();
  RowSum<T> sums[] = {
      {args.main.grad_weight, numbers},
      {args.main.grad_norm, 2 * layer.in_features},
      {args.has_base ? args.base.grad_weight : nullptr, layer.out_features * layer.in_features}};
  int64_t shared = stride * layer.out_features + (norm ? in_parts * 2 * stride : 0);
  for (const RowSum<T>& sum : sums) shared += row_parts > 1 ? row_parts * sum.numbers : 0;
  T* memory = static_cast<T*>(thread_scratch(sizeof(T) * shared, 1));
  if (memory == nullptr) return Status::kOutOfMemory;
  T* const u = memory;
  T* const rows = u + stride * layer.out_features;
  memory = rows + (norm ? in_parts * 2 * stride : 0);
  for (RowSum<T>& sum : sums) {
    if (row_parts == 1) break;
    sum.parts = memory;
    memory += row_parts * sum.numbers;
  }
  const int64_t copies = std::min<int64_t>(threads, tiles);
  parallel_for(copies, threads, [&](int64_t n) {
    const int64_t begin = tiles * n / copies * tile, end = tiles * (n + 1) / copies * tile;
    kernels.full_columns(args.u + begin * args.u_row_stride, args.u_row_stride, args.u_col_stride,
                         std::min(layer.rows, end) - begin, layer.out_features, u + begin, stride);
    return true;
  });
  const auto share = [&](int64_t n) {
    const int64_t row_part = n / in_parts, in_part = n % in_parts;
    return FullShare{tiles * row_part / row_parts * tile,
                     std::min(layer.rows, tiles * (row_part + 1) / row_parts * tile),
                     layer.in_features * in_part / in_parts,
                     layer.in_features * (in_part + 1) / in_parts};
  };
  const auto main = [&](int64_t n) {
    const int64_t row_part = n / in_parts;
    return kernels.full_in_weight(
        args.main, u, stride, share(n),
        {sums[0].part(row_part), sums[1].part(row_part), rows + n % in_parts * 2 * stride, stride});
  };
  const auto base = [&](int64_t n) {
    return !args.has_base ||
           kernels.full_in_weight(args.base, u, stride, share(n),
                                  {sums[2].part(n / in_parts), nullptr, nullptr, 0});
  };
  bool good;
  if (norm) {
    // the gradient of an input needs sums over all inputs
    good = parallel_for(in_parts * row_parts, threads, main) &&
           parallel_for(in_parts * row_parts, threads, [&](int64_t n) {
             if (args.main.z != nullptr)
               kernels.full_norm_input(args.main, share(n), rows, in_parts, stride);
             return base(n);
           });
  } else {
    good =
        parallel_for(in_parts * row_parts, threads, [&](int64_t n) { return main(n) && base(n); });
  }
  if (!good) return Status::kOutOfMemory;
  for (const RowSum<T>& sum : sums) sum.add_up(row_parts, threads);
  return Status::kOk;
}

template Status full_out(const FullOutArgs<float>&);
template Status full_out(const FullOutArgs<double>&);
template Status full_in_weight(const FullInWeightArgs<float>&);
template Status full_in_weight(const FullInWeightArgs<double>&);

}  // namespace kan_fast
