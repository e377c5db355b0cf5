// What the files of the Python module share.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>

#include "entry.h"

// A tensor's memory as Python knows it; 0 means absent.
template <class T>
T* pointer(int64_t address) {
  return reinterpret_cast<T*>(static_cast<intptr_t>(address));
}

inline void check(kan_fast::Status status) {
  if (status == kan_fast::Status::kOutOfMemory) throw std::bad_alloc();  // MemoryError
}

// The kernels of full bases.
void bind_full(pybind11::module_& m);
// The CUDA kernels, in a build that has some.
void bind_cuda(pybind11::module_& m);
