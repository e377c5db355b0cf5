// A block of threads that runs in step: on a GPU, and thread by thread on a CPU.
//
// Kernels are written as functions of a group. group.each(f) runs f(thread) for every thread and
// returns when all have finished; what lives longer than that is in shared memory or `PerThread`.
// So the same lines, indices and masks included, run in CPU tests (docs/decisions/0009).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kan_fast/platform.h"
#include "mma.h"

#if !defined(__CUDACC__)
#include <vector>
#endif

namespace kan_fast {

#if defined(__CUDACC__)

extern __shared__ __align__(16) unsigned char shared_memory[];

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
  // a product of tensor cores in every warp; pick(state) says what a thread holds of it
  template <class S, class Pick>
  __device__ void mma(PerThread<S>& states, const Pick& pick) const {
    mma_tf32(pick(states[0]));
  }
  template <class S, class Pick>
  __device__ void mma_sparse(PerThread<S>& states, const Pick& pick) const {
    mma_sparse_tf32(pick(states[0]));
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
  template <class S, class Pick>
  void mma(PerThread<S>& states, const Pick& pick) const {
    for (int first = 0; first < kThreads; first += kWarp) {
      MmaOperands of[kWarp];
      for (int lane = 0; lane < kWarp; ++lane) of[lane] = pick(states[first + lane]);
      mma_tf32_of_warp(of);
    }
  }
  template <class S, class Pick>
  void mma_sparse(PerThread<S>& states, const Pick& pick) const {
    for (int first = 0; first < kThreads; first += kWarp) {
      MmaSparseOperands of[kWarp];
      for (int lane = 0; lane < kWarp; ++lane) of[lane] = pick(states[first + lane]);
      mma_sparse_tf32_of_warp(of);
    }
  }

 private:
  int block_;
  std::vector<unsigned char> shared_;
};

#endif

}  // namespace kan_fast
