#include "device.cuh"
#include "launch_mma.h"

namespace kan_fast {

int device_mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial,
                         void* stream) {
  return run_mma_in_weight(args, product, partial,
                           DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
