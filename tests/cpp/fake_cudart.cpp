// As much of CUDA's runtime as a program of nvcc's calls, which is linked with --cudart none. As
// on a device, a launch may not have a gigabyte of shared memory, and an error stays until somebody
// asks for it.
#include <cuda_runtime_api.h>

int launches = 0;

static cudaError_t last_error = cudaSuccess;

extern "C" {
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  if (value < 1 << 30) return cudaSuccess;
  return last_error = cudaErrorInvalidValue;
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
  ++launches;
  return cudaSuccess;
}
// of CUDA 13 and newer
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  ++launches;
  return cudaSuccess;
}
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, cudaStream_t) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaSuccess; }
void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {}
char __cudaInitModule(void**) { return 0; }
}
