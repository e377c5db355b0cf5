// Numbers of a test on the host, and a copy of each on the device where there is one: plain
// allocations and copies, no managed memory.
#pragma once

#include <cstdlib>
#include <map>
#include <vector>

#if defined(KAN_HAVE_CUDA)
#include <cuda_runtime_api.h>
#endif

#include "device_entry.h"

namespace kan_fast {

#if defined(KAN_HAVE_CUDA)
inline bool has_gpu() {
  static const bool found = [] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  }();
  return found;
}
inline bool has_wgmma() {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  return major == 9 && minor == 0;
}

struct Copy {
  void* device;
  size_t bytes;
};
// by the address on the host
inline std::map<void*, Copy>& copies() {
  static std::map<void*, Copy> all;
  return all;
}
inline void* allocate(size_t bytes) {
  void* const host = std::malloc(bytes);
  void* device = nullptr;
  if (has_gpu() && cudaMalloc(&device, bytes) == cudaSuccess) copies()[host] = {device, bytes};
  return host;
}
inline void release(void* host) {
  const auto copy = copies().find(host);
  if (copy != copies().end()) {
    cudaFree(copy->second.device);
    copies().erase(copy);
  }
  std::free(host);
}
inline void* on_device(const void* host) {
  const auto copy = copies().find(const_cast<void*>(host));
  return copy == copies().end() ? nullptr : copy->second.device;
}
// All numbers to the device, or back from it; whether that and what ran before went well.
inline bool upload() {
  for (const auto& [host, copy] : copies())
    if (cudaMemcpy(copy.device, host, copy.bytes, cudaMemcpyHostToDevice) != cudaSuccess)
      return false;
  return true;
}
inline bool download() {
  if (cudaDeviceSynchronize() != cudaSuccess) return false;
  for (const auto& [host, copy] : copies())
    if (cudaMemcpy(host, copy.device, copy.bytes, cudaMemcpyDeviceToHost) != cudaSuccess)
      return false;
  return true;
}
#else
inline bool has_gpu() { return false; }
inline bool has_wgmma() { return false; }
inline void* allocate(size_t bytes) { return std::malloc(bytes); }
inline void release(void* memory) { std::free(memory); }
inline void* on_device(const void*) { return nullptr; }
inline bool upload() { return false; }
inline bool download() { return false; }
#endif

template <class T>
struct Allocator {
  using value_type = T;
  Allocator() = default;
  template <class U>
  explicit Allocator(const Allocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(kan_fast::allocate(n * sizeof(T))); }
  void deallocate(T* memory, size_t) { release(memory); }
  bool operator==(const Allocator&) const { return true; }
  bool operator!=(const Allocator&) const { return false; }
};
template <class T>
using Numbers = std::vector<T, Allocator<T>>;

constexpr CudaTarget kHost{true, nullptr}, kDevice{false, nullptr};

// Arguments as the target reads them, from those of the host.
template <class T>
T* on(const CudaTarget& target, T* host) {
  return target.emulated ? host : static_cast<T*>(on_device(host));
}
template <class T>
LayerArgs<T> on(const CudaTarget& target, LayerArgs<T> args) {
  for (const T** numbers : {&args.table.knots, &args.x, &args.v, &args.spline_weight,
                            &args.spline_scaler, &args.base_weight})
    *numbers = on(target, *numbers);
  return args;
}
template <class T>
OutArgs<T> on(const CudaTarget& target, OutArgs<T> args) {
  args.layer = on(target, args.layer);
  args.y = on(target, args.y);
  return args;
}
template <class T>
InWeightArgs<T> on(const CudaTarget& target, InWeightArgs<T> args) {
  args.layer = on(target, args.layer);
  args.u = on(target, args.u);
  for (T** numbers :
       {&args.z, &args.grad_spline_weight, &args.grad_spline_scaler, &args.grad_base_weight})
    *numbers = on(target, *numbers);
  return args;
}
template <class T>
NetworkArgs<T> on(const CudaTarget& target, NetworkArgs<T> args) {
  for (int n = 0; n < args.num_layers; ++n) {
    args.of[n] = on(target, args.of[n]);
    args.y[n] = on(target, args.y[n]);
  }
  args.partial = on(target, args.partial);
  args.arrived = on(target, args.arrived);
  return args;
}

// Whether `run` on the target returns what it should, and the results are back.
template <class Run>
bool runs(const CudaTarget& target, int wanted, const Run& run) {
  if (target.emulated) return run() == wanted;
  return upload() && run() == wanted && download();
}

}  // namespace kan_fast
