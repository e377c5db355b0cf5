// Launches on a device.
#pragma once

#include <cuda_runtime.h>

#include "group.h"
#include "launch.h"

namespace kan_fast {

// kWgmma keeps apart what two files compile for different devices
template <class Kernel, bool kWgmma>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocks)
    in_step(const typename Kernel::Args args, const GatherGeometry geometry) {
  DeviceGroup<Kernel::kThreads> group;
  Kernel::run(group, args, geometry);
}

// kWgmma: of a file that is compiled for sm_90a; the others have no such kernels.
template <bool kWgmma = false>
struct DeviceRunner {
  template <class Kernel>
  static constexpr bool has = Kernel::kWgmma == kWgmma;

  cudaStream_t stream;

  template <class Kernel>
  int run(int64_t blocks, const typename Kernel::Args& args, const GatherGeometry& g) const {
    const auto kernel = in_step<Kernel, kWgmma>;
    if (g.shared_bytes > 48 * 1024) {
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(g.shared_bytes));
      if (error != cudaSuccess) {
        // this launch's alone: what is left behind the next good one would report
        cudaGetLastError();
        return error;
      }
    }
    kernel<<<static_cast<unsigned>(blocks), Kernel::kThreads, g.shared_bytes, stream>>>(args, g);
    return cudaGetLastError();
  }
};

}  // namespace kan_fast
