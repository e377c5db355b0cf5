// Entry points of the CUDA kernels, for host code: addresses of the device's memory and a stream.
#pragma once

#include "kan_fast/args.h"
#include "network_args.h"
#include "product.h"

namespace kan_fast {

// 0, or an error: of CUDA's where positive.
enum CudaStatus : int {
  kCudaOk = 0,
  kTooManyBlocks = -1,
  kTooManyFunctions = -2,
  kNoKernels = -3  // this build has none for the target
};

// Where a launch goes; on the host (`emulated`) in a build for tests alone, see emulation.h.
struct CudaTarget {
  bool emulated;
  void* stream;  // cudaStream_t
};

// `knots` of the layer's table are the device's; `by_cell` is not read.
template <class T>
int gather_out(const OutArgs<T>& args, const CudaTarget& target);

// How a forward of orders 1 to 3 uses tensor cores, wgmma where compute capability is 9.0; in up to
// so many bytes of shared memory a block.
struct MmaChoice {
  Product product;
  bool sparse, wgmma;
  int64_t most_shared;
};
// Words of 32 bits that the weights are packed into; 0 where tensor cores have no kernel for the
// layer.
int64_t mma_packed_words(const LayerArgs<float>& layer, const MmaChoice& choice);
int mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed,
            const CudaTarget& target);
// `partial` as below; numbers are -1 where there is no kernel.
int mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial,
                  const CudaTarget& target);
int64_t mma_partial_numbers(const LayerArgs<float>& layer, Product product);

// `partial` has room for `gather_partial_numbers` numbers.
template <class T>
int gather_in_weight(const InWeightArgs<T>& args, T* partial, const CudaTarget& target);
template <class T>
int64_t gather_partial_numbers(const LayerArgs<T>& layer);

// All layers in one launch: network.h, network_backward.h, network_double_backward.h.
template <class T>
int network(const NetworkArgs<T>& args, NetworkPass pass, const CudaTarget& target);
template <class T>
NetworkSize network_size(const NetworkArgs<T>& args, NetworkPass pass);

// What an error says; null for one that is no CUDA error.
const char* cuda_error(int error);

}  // namespace kan_fast
