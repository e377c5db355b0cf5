#include "device.cuh"
#include "launch_network.h"

namespace kan_fast {

int device_network(const NetworkArgs<float>& args, NetworkPass pass, void* stream) {
  return run_network(args, pass, DeviceRunner<>{static_cast<cudaStream_t>(stream)});
}

}  // namespace kan_fast
