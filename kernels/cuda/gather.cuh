// The gathering kernels for a device; KAN_CUDA_TYPE is the number type, of one file each so that
// they build at the same time.
#pragma once

#include "device.cuh"

namespace kan_fast {

int device_gather_out(const OutArgs<KAN_CUDA_TYPE>& args, void* stream) {
  return run_gather_out(args, DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

int device_gather_in_weight(const InWeightArgs<KAN_CUDA_TYPE>& args, KAN_CUDA_TYPE* partial,
                            void* stream) {
  return run_gather_in_weight(args, partial, DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
