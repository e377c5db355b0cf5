#include "device.cuh"

namespace kan_fast {

int device_mma_out(const OutArgs<float>& args, int passes, void* stream) {
  return run_mma_out(args, passes, DeviceRunner{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
