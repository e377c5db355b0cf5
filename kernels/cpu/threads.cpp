// How many threads a call wakes.
#include <omp.h>
#if defined(__linux__)
#include <dirent.h>
#include <pthread.h>
#endif

#include <atomic>

#include "entry.h"

namespace kan_fast {
namespace {

constexpr double kThreadCost = 50000;  // cycles of work: waking a thread pays from here on

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

}  // namespace

int useful_threads(double cost) {
  // inside another parallel region the pool is already busy
  const bool alone = omp_in_parallel() || lost_its_threads.load(std::memory_order_relaxed);
  const int available = alone ? 1 : omp_get_max_threads();
  const double wanted = cost / kThreadCost + 1;
  return wanted < available ? static_cast<int>(wanted) : available;
}

int max_threads() { return omp_get_max_threads(); }

}  // namespace kan_fast
