"""The CUDA C++ backend: kernels of `kan_fast._C` on CUDA tensors.

Spline layers alone; the Gram matrix and families that are evaluated in full are Triton's.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast.backends.base import Backend
from kan_fast.backends.cuda.spline import CudaKernels
from kan_fast.backends.devices import HALF, float32_products
from kan_fast.spec import Machine, Problem


@functools.cache
def _kernels(product: str | None) -> CudaKernels:
    return CudaKernels(product)


class Cuda(Backend):
    """CUDA C++ kernels; coordinates and sums of half precision are in float32."""

    name = "cuda"
    title = "CUDA"
    device = "cuda"

    def missing(self, problem: Problem, facts: Machine) -> str | None:
        """The extension, or CUDA kernels in it."""
        if facts.extension is None:
            return f"the native extension is not available ({facts.extension_error})"
        if not facts.cuda and not self.emulates(problem, facts):
            return (
                "kan_fast was built without CUDA kernels; reinstall it where nvcc and a GPU are "
                "found, or with CMAKE_ARGS=-DKAN_FAST_CUDA=ON"
            )
        return None

    def emulates(self, problem: Problem, facts: Machine) -> bool:
        """On the host, thread by thread, for tests."""
        return facts.cuda_emulated and problem.device == "cpu" and problem.asked

    def reserved(self, problem: Problem) -> str | None:
        """For who asks: Triton's kernels are faster on most layers (docs/gpu-validation.md)."""
        if problem.asked:
            return None
        return "the CUDA kernels are slower than Triton's on most layers; ask for backend='cuda'"

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> CudaKernels:
        """The contractions in the precision that torch has been asked for, now."""
        if weight.dtype is torch.float64:
            return _kernels(None)
        return _kernels(HALF.get(product_dtype) or float32_products())
