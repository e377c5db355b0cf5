#include <cuda_runtime.h>

#include "device_entry.h"

namespace kan_fast {

const char* cuda_error(int error) {
  return error > 0 ? cudaGetErrorString(static_cast<cudaError_t>(error)) : nullptr;
}

}  // namespace kan_fast
