// A block of threads on a device, for tests of the code that nvcc makes of it, and a launch that
// fails, by a runtime that needs no GPU (fake_cudart.cpp).
#include <cstdio>

#include "device.cuh"

using namespace kan_fast;

struct Counts {
  int blocks;
  int* counter;
  int* parts;
  int* total;
};

// The last block adds up what all have written.
struct LastAddsUp {
  using Args = Counts;
  static constexpr int kThreads = 64, kBlocks = 1;

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    group.each([&](int thread) { args.parts[group.block() * kThreads + thread] = thread; });
    if (!group.last_of(args.blocks, args.counter)) return;
    group.each([&](int thread) {
      int sum = 0;
      for (int n = 0; n < args.blocks; ++n) sum += args.parts[n * kThreads + thread];
      args.total[thread] = sum;
    });
  }
};

struct Steps {
  const int* steps;  // of each thread
  float* y;
};

// Products of a warpgroup whose threads come from, and go through, loops of their own.
struct DivergentProducts {
  using Args = Steps;
  static constexpr int kThreads = kWarpgroup, kBlocks = 1, kColumns = 64;
  struct State {
    float sum[kColumns / 2];
  };

  template <class Group>
  static KAN_HD_INLINE void run(Group& group, const Args& args, const GatherGeometry&) {
    typename Group::template PerThread<State> states(group);
    uint32_t* const tile = reinterpret_cast<uint32_t*>(group.shared());
    const auto diverge = [&](uint32_t* to) {
      group.each_alone([&](int thread) {
        for (int n = 0; n < args.steps[thread]; ++n) to[n * kThreads + thread] += n;
      });
    };
    diverge(tile);
    group.start_products();
    group.template wgmma<Product::kTf32, false, kColumns>(states, [&](State& state, int) {
      return WgmmaOperands{tile, tile, kWgmmaRows / 8, kColumns / 8, 0, state.sum, 0};
    });
    diverge(tile + 4096);
    group.commit_products();
    diverge(tile + 8192);
    group.finish_products(states, [](State& s) -> float (&)[kColumns / 2] { return s.sum; });
    group.each_alone([&](int thread) { args.y[thread] = states[thread].sum[0]; });
  }
};

extern int launches;

int main() {
  GatherGeometry g{};
  g.shared_bytes = 1 << 30;
  const int failed = DeviceRunner<>{nullptr}.run<LastAddsUp>(1, Counts{}, g);
  g.shared_bytes = 1 << 10;
  const int next = DeviceRunner<true>{nullptr}.run<DivergentProducts>(1, Steps{}, g);
  std::printf("%d, then %d, %d launches\n", failed, next, launches);
  return failed == cudaErrorInvalidValue && next == cudaSuccess && launches == 1 ? 0 : 1;
}
