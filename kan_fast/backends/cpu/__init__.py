"""The native kernels on CPU tensors."""
