// Splits a contraction over threads.
#include "entry.h"

#include <cstring>
#include <new>
#include <vector>

#include "costs.h"
#include "pages.h"
#include "parallel.h"
#include "tasks.h"

namespace kan_fast {
namespace {

int64_t share(int64_t total, int64_t unit, int64_t part, int64_t parts) {
  const int64_t units = (total + unit - 1) / unit;
  const int64_t at = units * part / parts * unit;
  return at < total ? at : total;
}

// Splits outputs over threads: every thread finds the basis again, which is cheap for few rows.
template <class T>
Status few_rows(const KernelSet<T>& kernels, const OutArgs<T>& args) {
  const LayerArgs<T>& layer = args.layer;
  const int threads = useful_threads(few_rows_cost(layer));
  const int64_t parts = threads < layer.out_features ? threads : layer.out_features;
  const bool good = parallel_for(parts, threads, [&](int64_t n) {
    return kernels.few_rows({&args, 0, layer.rows, share(layer.out_features, 1, n, parts),
                             share(layer.out_features, 1, n + 1, parts)});
  });
  return good ? Status::kOk : Status::kOutOfMemory;
}

}  // namespace

template <class T>
Status contract_out(const OutArgs<T>& args) {
  const LayerArgs<T>& layer = args.layer;
  if (layer.rows == 0 || layer.out_features == 0) return Status::kOk;
  if (layer.in_features == 0) {
    std::memset(args.y, 0, sizeof(T) * layer.rows * layer.out_features);
    return Status::kOk;
  }
  const KernelSet<T>& kernels = current_kernels<T>();
  const double lanes = kernels.vector_bytes / sizeof(T);
  const double edges = double(layer.in_features) * layer.out_features;
  const double pack = edges * (layer.table.num_basis + 1) * kPackCost;
  const double stage = double(layer.rows) * layer.in_features * kStageCost;
  const double work = double(layer.rows) * layer.in_features * pair_cost(layer, lanes);
  if (few_rows_cost(layer) < pack + stage + work) return few_rows(kernels, args);
  const int threads = useful_threads(pack + stage + work);

  // splitting rows packs the weights once a share, splitting outputs stages the rows once a share
  const int64_t unit = 4 * static_cast<int64_t>(lanes);
  int out_parts = 1;
  double best = 0;
  for (int parts = 1; parts <= threads; ++parts) {
    if (threads % parts != 0 || (parts > 1 && layer.out_features < parts * unit)) continue;
    const int row_parts = threads / parts;
    if (layer.rows < row_parts) continue;
    const double cost = stage / row_parts + pack / parts;
    if (best == 0 || cost < best) {
      best = cost;
      out_parts = parts;
    }
  }
  const int64_t row_parts = threads / out_parts < layer.rows ? threads / out_parts : layer.rows;
  const bool good = parallel_for(out_parts * row_parts, threads, [&](int64_t n) {
    OutTask<T> task{&args, layer.rows * (n % row_parts) / row_parts,
                    layer.rows * (n % row_parts + 1) / row_parts,
                    share(layer.out_features, unit, n / row_parts, out_parts),
                    share(layer.out_features, unit, n / row_parts + 1, out_parts)};
    return task.row_begin == task.row_end || task.out_begin == task.out_end || kernels.out(task);
  });
  return good ? Status::kOk : Status::kOutOfMemory;
}

template <class T>
Status contract_in_weight(const InWeightArgs<T>& args) {
  const LayerArgs<T>& layer = args.layer;
  const int64_t edges = layer.in_features * layer.out_features;
  if (layer.rows == 0 || edges == 0) {
    const int num_basis = layer.table.num_basis;
    if (args.z != nullptr) std::memset(args.z, 0, sizeof(T) * layer.rows * layer.in_features);
    if (args.grad_spline_weight != nullptr)
      std::memset(args.grad_spline_weight, 0, sizeof(T) * edges * num_basis);
    if (args.grad_spline_scaler != nullptr)
      std::memset(args.grad_spline_scaler, 0, sizeof(T) * edges);
    if (args.grad_base_weight != nullptr) std::memset(args.grad_base_weight, 0, sizeof(T) * edges);
    return Status::kOk;
  }
  if (args.grad_spline_weight != nullptr)
    prefer_large_pages(args.grad_spline_weight, sizeof(T) * edges * layer.table.num_basis);
  const KernelSet<T>& kernels = current_kernels<T>();
  const bool need_weight = args.grad_spline_weight != nullptr ||
                           args.grad_spline_scaler != nullptr || args.grad_base_weight != nullptr;
  const double lanes = kernels.vector_bytes / sizeof(T);
  const double pairs = double(layer.rows) * layer.in_features;
  const int threads = useful_threads(pairs * (kStageCost + 2 * pair_cost(layer, lanes)));
  // inputs first: then nobody shares a sum. Few inputs and many rows: shares of rows as well, each
  // with its own S, added up in order afterwards
  const int64_t in_parts = threads < layer.in_features ? threads : layer.in_features;
  int64_t row_parts = need_weight ? threads / in_parts : 1;
  if (!need_weight) row_parts = (threads + in_parts - 1) / in_parts;
  constexpr int64_t kFewestRows = 256;
  const int64_t most_parts = layer.rows / kFewestRows;
  if (row_parts > most_parts) row_parts = most_parts > 1 ? most_parts : 1;

  std::vector<T> partials;
  const int64_t per_input = int64_t(layer.table.num_basis + 1) * layer.out_features;
  const bool reduce = need_weight && row_parts > 1;
  if (reduce) {
    try {
      partials.resize(row_parts * layer.in_features * per_input);
    } catch (const std::bad_alloc&) {
      return Status::kOutOfMemory;
    }
  }
  auto partial_at = [&](int64_t row_part, int64_t in) {
    return partials.data() + (row_part * layer.in_features + in) * per_input;
  };
  bool good = parallel_for(in_parts * row_parts, threads, [&](int64_t n) {
    const int64_t row_part = n / in_parts;
    const int64_t in_begin = layer.in_features * (n % in_parts) / in_parts;
    InWeightTask<T> task{&args,
                         layer.rows * row_part / row_parts,
                         layer.rows * (row_part + 1) / row_parts,
                         in_begin,
                         layer.in_features * (n % in_parts + 1) / in_parts,
                         reduce ? partial_at(row_part, in_begin) : nullptr};
    return kernels.in_weight(task);
  });
  if (good && reduce)
    good = parallel_for(layer.in_features, threads, [&](int64_t in) {
      std::vector<const T*> parts(row_parts);
      for (int64_t n = 0; n < row_parts; ++n) parts[n] = partial_at(n, in);
      return kernels.unfold({&args, in, in + 1, parts.data(), static_cast<int>(row_parts)});
    });
  return good ? Status::kOk : Status::kOutOfMemory;
}

template Status contract_out(const OutArgs<float>&);
template Status contract_out(const OutArgs<double>&);
template Status contract_in_weight(const InWeightArgs<float>&);
template Status contract_in_weight(const InWeightArgs<double>&);

}  // namespace kan_fast
