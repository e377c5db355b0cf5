// A block of threads that runs in step: on a GPU, and thread by thread on a CPU.
//
// Kernels are written as functions of a group. group.each(f) runs f(thread) for every thread and
// returns when all have finished; what lives longer than that is in shared memory or `PerThread`.
// So the same lines, indices and masks included, run in CPU tests (docs/decisions/0009). What a GPU
// does in the background the host does late: copies arrive when they are waited for, and an operand
// that changes before its product is waited for stops the program.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kan_fast/platform.h"
#include "mma.h"
#include "wgmma.h"

#if !defined(__CUDACC__)
#include <cstdio>
#include <cstdlib>
#include <vector>
#endif

namespace kan_fast {

#if defined(__CUDACC__)

extern __shared__ __align__(128) unsigned char shared_memory[];

template <int kThreads>
struct DeviceGroup {
  // a lambda of the kernel's own for each thread: registers stay registers
  template <class S>
  struct PerThread {
    S state;
    __device__ explicit PerThread(const DeviceGroup&) : state() {}
    __device__ S& operator[](int) { return state; }
  };

  __device__ int block() const { return static_cast<int>(blockIdx.x); }
  __device__ unsigned char* shared() const { return shared_memory; }
  template <class F>
  __device__ void each(const F& f) const {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  // the same without a barrier, for what threads do to their own state
  template <class F>
  __device__ void each_alone(const F& f) const {
    f(static_cast<int>(threadIdx.x));
  }

  // 16 bytes to shared memory, in the background; a thread's own
  __device__ void copy(void* to, const void* from) const {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  }
  // until the thread's copies are there; others see them after a barrier
  __device__ void wait_copies() const { asm volatile("cp.async.wait_all;" ::: "memory"); }

  // whether this block is the last of all to come here, for what needs the others' results in
  // memory; `counter` is zero at first and at the end
  __device__ bool last_of(int blocks, int* counter) const {
    __shared__ bool last;
    __syncthreads();
    // One thread's fences, on either side of its atomic, order what the barriers order before and
    // after it (PTX ISA, "Memory Consistency Model": causality), as in CUDA's own barrier of grids.
    if (threadIdx.x == 0) {
      __threadfence();
      last = atomicAdd(counter, 1) == blocks - 1;
      __threadfence();
      if (last) *counter = 0;
    }
    __syncthreads();
    return last;
  }

  // a product of tensor cores in every warp; pick(state, thread) says what a thread holds of it
  template <Product kProduct, bool kSparse, class S, class Pick>
  __device__ void mma(PerThread<S>& states, const Pick& pick) const {
    kan_fast::mma<kProduct, kSparse>(pick(states[0], static_cast<int>(threadIdx.x)));
  }
  // likewise in every four warps, in the background from `start_products` to `finish_products`,
  // whose `sums(state)` are the numbers added to
  template <Product kProduct, bool kSparse, int kColumns, class S, class Pick>
  __device__ void wgmma(PerThread<S>& states, const Pick& pick) const {
    kan_fast::wgmma<kProduct, kSparse, kColumns>(pick(states[0], static_cast<int>(threadIdx.x)));
  }
  __device__ void publish() const { wgmma_publish(); }
  // warps must be whole for these, and need not be after code in which threads part
  __device__ void start_products() const {
    __syncwarp();
    wgmma_fence();
  }
  __device__ void commit_products() const {
    __syncwarp();
    wgmma_commit();
  }
  template <class S, class Sums>
  __device__ void finish_products(PerThread<S>& states, const Sums& sums) const {
    __syncwarp();
    wgmma_wait(sums(states[0]));
  }
};

#else

template <int kThreads>
class HostGroup {
 public:
  template <class S>
  struct PerThread {
    std::vector<S> states;
    explicit PerThread(const HostGroup&) : states(kThreads) {}
    S& operator[](int thread) { return states[thread]; }
  };

  HostGroup(int block, size_t shared_bytes) : block_(block), shared_(shared_bytes) {}
  int block() const { return block_; }
  unsigned char* shared() { return shared_.data(); }
  template <class F>
  void each(const F& f) const {
    for (int thread = 0; thread < kThreads; ++thread) f(thread);
  }
  template <class F>
  void each_alone(const F& f) const {
    each(f);
  }

  void copy(void* to, const void* from) { copies_.push_back({to, from}); }
  void wait_copies() {
    for (const Copy& copy : copies_) std::memcpy(copy.to, copy.from, 16);
    copies_.clear();
  }

  bool last_of(int blocks, int* counter) const {
    if (++*counter < blocks) return false;
    *counter = 0;
    return true;
  }

  template <Product kProduct, bool kSparse, class S, class Pick>
  void mma(PerThread<S>& states, const Pick& pick) const {
    for (int first = 0; first < kThreads; first += kWarp) {
      MmaOperands of[kWarp];
      for (int lane = 0; lane < kWarp; ++lane) of[lane] = pick(states[first + lane], first + lane);
      mma_of_warp<kProduct, kSparse>(of);
    }
  }
  template <Product kProduct, bool kSparse, int kColumns, class S, class Pick>
  void wgmma(PerThread<S>& states, const Pick& pick) {
    constexpr int kShape = kColumns * 64 + mma_b_words(kSparse) * numbers_of_word(kProduct);
    if (shape_ != kFenced && shape_ != kShape)
      stop("sums of threads or of another shape go into a product of tensor cores unfenced");
    shape_ = kShape;
    for (int first = 0; first < kThreads; first += kWarpgroup) {
      WgmmaOperands of[kWarpgroup];
      for (int lane = 0; lane < kWarpgroup; ++lane)
        of[lane] = pick(states[first + lane], first + lane);
      wgmma_of_warpgroup<kProduct, kSparse, kColumns>(of, [&](const uint32_t* at) {
        reads_.push_back({at, *at});
        return *at;
      });
    }
  }
  void publish() const {}
  void start_products() { shape_ = kFenced; }
  void commit_products() const {}
  template <class S, class Sums>
  void finish_products(PerThread<S>&, const Sums&) {
    for (const Read& read : reads_)
      if (*read.at != read.was) stop("an operand changed under a product of tensor cores");
    reads_.clear();
    shape_ = kOfThreads;
  }

 private:
  // What last had the sums of products: threads; nobody since a fence; or products of a shape, the
  // only ones that may go on without a fence (PTX ISA, "wgmma.fence").
  enum : int { kOfThreads = -1, kFenced = 0 };

  [[noreturn]] static void stop(const char* what) {
    std::fprintf(stderr, "kan_fast: %s\n", what);
    std::abort();
  }

  struct Copy {
    void* to;
    const void* from;
  };
  struct Read {
    const uint32_t* at;
    uint32_t was;
  };

  int block_;
  std::vector<unsigned char> shared_;
  std::vector<Copy> copies_;
  std::vector<Read> reads_;
  int shape_ = kOfThreads;
};

#endif

}  // namespace kan_fast
