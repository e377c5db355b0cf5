"""Models of other libraries: recognised, run by our kernels, converted."""
