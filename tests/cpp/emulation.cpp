// kan_emulation: the CUDA kernels on the host, for Python's tests (tests/emulation.py).
#include "bindings.h"

PYBIND11_MODULE(kan_emulation, m) {
  m.doc() = "The CUDA kernels of kan_fast._C, thread by thread on the host.";
  bind_cuda(m);
}
