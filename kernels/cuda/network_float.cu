#include "device.cuh"

namespace kan_fast {

int device_network(const NetworkArgs<float>& args, bool backward, void* stream) {
  return run_network(args, backward, DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
