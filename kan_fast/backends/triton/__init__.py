"""The Triton kernels on CUDA tensors."""
