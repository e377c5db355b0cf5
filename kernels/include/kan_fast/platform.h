// Marks a function callable from host and device, and names the namespace that keeps the
// instruction-set builds of one header apart.
//
// the same inline function is compiled for several instruction sets; without a namespace of its own
// per build the linker would keep one copy, possibly one with instructions that this CPU lacks
#pragma once

#if defined(__CUDACC__)
#define KAN_HD __host__ __device__ inline
// for what fills an array of its caller: a call would keep the array in memory
#define KAN_HD_INLINE __host__ __device__ __forceinline__
#else
#define KAN_HD inline
#define KAN_HD_INLINE inline
#endif

// for the innermost steps of a kernel: a call would send vectors through memory
#define KAN_INLINE inline __attribute__((always_inline))
// the same for a lambda, after its parameters
#define KAN_INLINE_LAMBDA __attribute__((always_inline))

#ifndef KAN_ISA
#define KAN_ISA common
#endif

#define KAN_NAMESPACE_BEGIN \
  namespace kan_fast {      \
  inline namespace KAN_ISA {
#define KAN_NAMESPACE_END \
  }                       \
  }
