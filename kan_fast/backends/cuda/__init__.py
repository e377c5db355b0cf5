"""The CUDA C++ kernels on CUDA tensors."""
