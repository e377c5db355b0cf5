// Work shared by the threads of the process's OpenMP pool.
#pragma once

#include <atomic>
#include <cstdint>

namespace kan_fast {

// Runs body(n) for n in [0, count), at most `threads` at a time; false once one returned false.
template <class Body>
bool parallel_for(int64_t count, int threads, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (int64_t n = 0; n < count; ++n)
      if (!body(n)) return false;
    return true;
  }
  std::atomic<bool> good{true};
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t n = 0; n < count; ++n)
    if (!body(n)) good.store(false, std::memory_order_relaxed);
  return good.load();
}

}  // namespace kan_fast
