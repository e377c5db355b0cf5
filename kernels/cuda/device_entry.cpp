#include "device_entry.h"

#include "emulation.h"
#include "launch_mma.h"
#include "launch_network.h"

namespace kan_fast {

#if defined(KAN_HAVE_CUDA)
int device_gather_out(const OutArgs<float>& args, void* stream);
int device_gather_out(const OutArgs<double>& args, void* stream);
int device_gather_in_weight(const InWeightArgs<float>& args, float* partial, void* stream);
int device_gather_in_weight(const InWeightArgs<double>& args, double* partial, void* stream);
int device_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
                   void* stream);
int device_wgmma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
                     void* stream);
int device_mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial,
                         void* stream);
int device_network(const NetworkArgs<float>& args, NetworkPass pass, void* stream);
int device_network(const NetworkArgs<double>& args, NetworkPass pass, void* stream);
#else
namespace {

// without nvcc there is nothing for a device; Python does not ask for it
template <class T>
int device_gather_out(const OutArgs<T>&, void*) {
  return kNoKernels;
}
template <class T>
int device_gather_in_weight(const InWeightArgs<T>&, T*, void*) {
  return kNoKernels;
}
int device_mma_out(const OutArgs<float>&, const MmaChoice&, uint32_t*, void*) { return kNoKernels; }
int device_wgmma_out(const OutArgs<float>&, const MmaChoice&, uint32_t*, void*) {
  return kNoKernels;
}
int device_mma_in_weight(const InWeightArgs<float>&, Product, float*, void*) { return kNoKernels; }
template <class T>
int device_network(const NetworkArgs<T>&, NetworkPass, void*) {
  return kNoKernels;
}

}  // namespace

const char* cuda_error(int) { return nullptr; }
#endif

template <class T>
int gather_out(const OutArgs<T>& args, const CudaTarget& target) {
  return target.emulated ? emulated_gather_out(args) : device_gather_out(args, target.stream);
}

int64_t mma_packed_words(const LayerArgs<float>& layer, const MmaChoice& choice) {
  return packed_words(layer, choice);
}

int mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
            const CudaTarget& target) {
  if (target.emulated) return emulated_mma_out(args, choice, packed);
  return choice.wgmma ? device_wgmma_out(args, choice, packed, target.stream)
                      : device_mma_out(args, choice, packed, target.stream);
}

int mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial,
                  const CudaTarget& target) {
  return target.emulated ? emulated_mma_in_weight(args, product, partial)
                         : device_mma_in_weight(args, product, partial, target.stream);
}

int64_t mma_partial_numbers(const LayerArgs<float>& layer, Product product) {
  return mma_numbers(layer, product);
}

template <class T>
int gather_in_weight(const InWeightArgs<T>& args, T* partial, const CudaTarget& target) {
  return target.emulated ? emulated_gather_in_weight(args, partial)
                         : device_gather_in_weight(args, partial, target.stream);
}

template <class T>
int64_t gather_partial_numbers(const LayerArgs<T>& layer) {
  return partial_numbers(layer);
}

template <class T>
int network(const NetworkArgs<T>& args, NetworkPass pass, const CudaTarget& target) {
  return target.emulated ? emulated_network(args, pass) : device_network(args, pass, target.stream);
}

template <class T>
NetworkSize network_size(const NetworkArgs<T>& args, NetworkPass pass) {
  const int64_t blocks = network_blocks(args, pass);
  return {blocks, blocks == 0 ? 0 : network_numbers(args)};
}

template int network(const NetworkArgs<float>&, NetworkPass, const CudaTarget&);
template int network(const NetworkArgs<double>&, NetworkPass, const CudaTarget&);
template NetworkSize network_size(const NetworkArgs<float>&, NetworkPass);
template NetworkSize network_size(const NetworkArgs<double>&, NetworkPass);
template int gather_out(const OutArgs<float>&, const CudaTarget&);
template int gather_out(const OutArgs<double>&, const CudaTarget&);
template int gather_in_weight(const InWeightArgs<float>&, float*, const CudaTarget&);
template int gather_in_weight(const InWeightArgs<double>&, double*, const CudaTarget&);
template int64_t gather_partial_numbers(const LayerArgs<float>&);
template int64_t gather_partial_numbers(const LayerArgs<double>&);

}  // namespace kan_fast
