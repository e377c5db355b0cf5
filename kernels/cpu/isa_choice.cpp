// Which instruction set is in use.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "entry.h"
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

const char* active_isa() { return kIsaNames[current_isa()]; }

bool set_isa(const char* name) {
  for (int n = kBaseline; n <= kAvx512; ++n)
    if (std::strcmp(name, kIsaNames[n]) == 0 && isa_supported(n)) {
      isa.store(n);
      return true;
    }
  return false;
}

template const KernelSet<float>& current_kernels();
template const KernelSet<double>& current_kernels();

}  // namespace kan_fast
