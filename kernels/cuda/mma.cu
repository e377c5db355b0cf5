#include "device.cuh"
#include "launch_mma.h"

namespace kan_fast {

int device_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
                   void* stream) {
  return run_mma_out(args, choice, packed, DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
