// The CUDA kernels thread by thread on the host, on addresses of the host's memory: what tests
// without a GPU run. Only a build for tests has them.
#pragma once

#include "device_entry.h"

namespace kan_fast {

#if defined(KAN_HAVE_EMULATION)
int emulated_gather_out(const OutArgs<float>& args);
int emulated_gather_out(const OutArgs<double>& args);
int emulated_gather_in_weight(const InWeightArgs<float>& args, float* partial);
int emulated_gather_in_weight(const InWeightArgs<double>& args, double* partial);
int emulated_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed);
int emulated_mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial);
int emulated_network(const NetworkArgs<float>& args, NetworkPass pass);
int emulated_network(const NetworkArgs<double>& args, NetworkPass pass);
#else
template <class T>
int emulated_gather_out(const OutArgs<T>&) {
  return kNoKernels;
}
template <class T>
int emulated_gather_in_weight(const InWeightArgs<T>&, T*) {
  return kNoKernels;
}
inline int emulated_mma_out(const OutArgs<float>&, const MmaChoice&, uint32_t*) {
  return kNoKernels;
}
inline int emulated_mma_in_weight(const InWeightArgs<float>&, Product, float*) {
  return kNoKernels;
}
template <class T>
int emulated_network(const NetworkArgs<T>&, NetworkPass) {
  return kNoKernels;
}
#endif

}  // namespace kan_fast
