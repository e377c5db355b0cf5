// Launches on a device.
#pragma once

#include <cuda_runtime.h>

#include "group.h"
#include "launch.h"

namespace kan_fast {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocks)
    in_step(const typename Kernel::Args args, const GatherGeometry geometry) {
  DeviceGroup<Kernel::kThreads> group;
  Kernel::run(group, args, geometry);
}

struct DeviceRunner {
  cudaStream_t stream;

  template <class Kernel>
  int run(int64_t blocks, const typename Kernel::Args& args, const GatherGeometry& g) const {
    const auto kernel = in_step<Kernel>;
    if (g.shared_bytes > 48 * 1024) {
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(g.shared_bytes));
      if (error != cudaSuccess) return error;
    }
    kernel<<<static_cast<unsigned>(blocks), Kernel::kThreads, g.shared_bytes, stream>>>(args, g);
    return cudaGetLastError();
  }
};

}  // namespace kan_fast
