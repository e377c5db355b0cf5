#include "emulation.h"

#include "group.h"
#include "launch_mma.h"
#include "launch_network.h"

namespace kan_fast {
namespace {

struct HostRunner {
  template <class Kernel>
  static constexpr bool has = true;

  template <class Kernel>
  int run(int64_t blocks, const typename Kernel::Args& args, const GatherGeometry& g) const {
    for (int64_t block = 0; block < blocks; ++block) {
      HostGroup<Kernel::kThreads> group(static_cast<int>(block), g.shared_bytes);
      Kernel::run(group, args, g);
    }
    return kCudaOk;
  }
};

}  // namespace

int emulated_gather_out(const OutArgs<float>& args) { return run_gather_out(args, HostRunner{}); }
int emulated_gather_out(const OutArgs<double>& args) { return run_gather_out(args, HostRunner{}); }

int emulated_gather_in_weight(const InWeightArgs<float>& args, float* partial) {
  return run_gather_in_weight(args, partial, HostRunner{});
}
int emulated_gather_in_weight(const InWeightArgs<double>& args, double* partial) {
  return run_gather_in_weight(args, partial, HostRunner{});
}

int emulated_mma_out(const OutArgs<float>& args, const MmaChoice& choice, uint32_t* packed) {
  return run_mma_out(args, choice, packed, HostRunner{});
}

int emulated_mma_in_weight(const InWeightArgs<float>& args, Product product, float* partial) {
  return run_mma_in_weight(args, product, partial, HostRunner{});
}

int emulated_network(const NetworkArgs<float>& args, NetworkPass pass) {
  return run_network(args, pass, HostRunner{});
}
int emulated_network(const NetworkArgs<double>& args, NetworkPass pass) {
  return run_network(args, pass, HostRunner{});
}

}  // namespace kan_fast
