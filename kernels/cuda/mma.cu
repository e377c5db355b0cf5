#include "device.cuh"

namespace kan_fast {

int device_mma_out(const OutArgs<float>& args, int passes, bool sparse, void* stream) {
  return run_mma_out(args, passes, sparse, DeviceRunner{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
