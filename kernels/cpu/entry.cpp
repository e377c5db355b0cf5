#include "entry.h"

#include <omp.h>
#if defined(__linux__)
#include <dirent.h>
#include <pthread.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "pages.h"
#include "parallel.h"
#include "tasks.h"

namespace kan_fast {
namespace {

enum Isa { kUnset = -1, kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };
constexpr const char* kIsaNames[] = {"baseline", "avx2", "avx512"};
std::atomic<int> isa{kUnset};

bool isa_supported(int candidate) {
#if defined(KAN_HAVE_avx512)
  __builtin_cpu_init();
  if (candidate == kAvx512)
    return __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw");
#endif
#if defined(KAN_HAVE_avx2)
  __builtin_cpu_init();
  if (candidate == kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return candidate == kBaseline;
}

int current_isa() {
  int chosen = isa.load(std::memory_order_relaxed);
  if (chosen != kUnset) return chosen;
  chosen = kAvx512;
  while (!isa_supported(chosen)) --chosen;
  if (const char* name = std::getenv("KAN_FAST_ISA"))
    for (int n = kBaseline; n <= kAvx512; ++n)
      if (std::strcmp(name, kIsaNames[n]) == 0 && isa_supported(n)) chosen = n;
  isa.store(chosen, std::memory_order_relaxed);
  return chosen;
}

}  // namespace

template <class T>
const KernelSet<T>& current_kernels() {
#if defined(KAN_HAVE_avx512)
  if (current_isa() == kAvx512) return avx512_kernels<T>();
#endif
#if defined(KAN_HAVE_avx2)
  if (current_isa() == kAvx2) return avx2_kernels<T>();
#endif
  return baseline_kernels<T>();
}

namespace {

// Rough costs in cycles, measured on Zen 4 with AVX-512; they only decide how work is split, never
// what is computed.
constexpr double kStageCost = 12;      // a row and input: locate, basis, activation, sort
constexpr double kPackCost = 1.5;      // a packed weight
constexpr double kVectorCost = 6;      // a row, input and vector of outputs
constexpr double kNarrowCost = 0.5;    // a row and edge of a narrow layer
constexpr double kFewCost = 1;         // a row, edge and function, read where the user has it
constexpr double kThreadCost = 50000;  // waking a thread pays from here on

// A row and input, staged and contracted once with all outputs.
template <class T>
double pair_cost(const LayerArgs<T>& layer, double lanes) {
  constexpr int64_t kNarrow = 16;
  const double outputs = layer.out_features;
  return outputs <= kNarrow ? outputs * kNarrowCost : (outputs / lanes + 1) * kVectorCost;
}

// A child of fork() has none of its parent's threads, but GNU OpenMP in it waits for them: such a
// child runs on one thread. Only a parent that had threads at all leaves this trace.
std::atomic<bool> lost_its_threads{false};

#if defined(__linux__)
bool had_threads = false;

void before_fork() {
  int tasks = 0;
  if (DIR* directory = opendir("/proc/self/task")) {
    while (const dirent* entry = readdir(directory)) tasks += entry->d_name[0] != '.';
    closedir(directory);
  }
  had_threads = tasks != 1;
}

void after_fork_in_child() {
  if (had_threads) lost_its_threads.store(true);
}

const int watching_forks = pthread_atfork(before_fork, nullptr, after_fork_in_child);
#endif

int64_t share(int64_t total, int64_t unit, int64_t part, int64_t parts) {
  const int64_t units = (total + unit - 1) / unit;
  const int64_t at = units * part / parts * unit;
  return at < total ? at : total;
}

struct Scratch {
  char* memory = nullptr;
  size_t size = 0;
  ~Scratch() { std::free(memory); }
};

}  // namespace

void* thread_scratch(size_t bytes, int which) {
  thread_local Scratch both[2];
  Scratch& scratch = both[which];
  if (scratch.size < bytes) {
    std::free(scratch.memory);
    scratch.size = (bytes + 4095) / 4096 * 4096;
    scratch.memory = static_cast<char*>(std::aligned_alloc(64, scratch.size));
    if (scratch.memory == nullptr) scratch.size = 0;
  }
  return scratch.memory;
}

namespace {

// A layer whose weights are read where they are.
template <class T>
double few_rows_cost(const LayerArgs<T>& layer) {
  const double edges = double(layer.in_features) * layer.out_features;
  const int window = layer.table.order + 1;
  // four functions are one vector
  return layer.rows *
         (layer.in_features * kStageCost + edges * (window == 4 ? 3 : window + 1) * kFewCost);
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

const char* active_isa() { return kIsaNames[current_isa()]; }

bool set_isa(const char* name) {
  for (int n = kBaseline; n <= kAvx512; ++n)
    if (std::strcmp(name, kIsaNames[n]) == 0 && isa_supported(n)) {
      isa.store(n);
      return true;
    }
  return false;
}

int useful_threads(double cost) {
  // inside another parallel region the pool is already busy
  const bool alone = omp_in_parallel() || lost_its_threads.load(std::memory_order_relaxed);
  const int available = alone ? 1 : omp_get_max_threads();
  const double wanted = cost / kThreadCost + 1;
  return wanted < available ? static_cast<int>(wanted) : available;
}

int max_threads() { return omp_get_max_threads(); }

template const KernelSet<float>& current_kernels();
template const KernelSet<double>& current_kernels();
template Status contract_out(const OutArgs<float>&);
template Status contract_out(const OutArgs<double>&);
template Status contract_in_weight(const InWeightArgs<float>&);
template Status contract_in_weight(const InWeightArgs<double>&);

}  // namespace kan_fast
