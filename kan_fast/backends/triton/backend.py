"""The Triton backend: `kernels/triton_jit` on CUDA tensors, in the precision asked of torch."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast.backends.base import Backend
from kan_fast.backends.devices import HALF, float32_products, on_device
from kan_fast.backends.triton import gram as launches
from kan_fast.backends.triton.arguments import jit
from kan_fast.backends.triton.full_basis import TritonFullKernels
from kan_fast.backends.triton.spline import TritonKernels
from kan_fast.spec import Machine, Problem, WindowedBasis


@functools.cache
def _kernels(precision: str, out_dtype: torch.dtype | None) -> TritonKernels:
    return TritonKernels(precision, out_dtype)


@functools.cache
def _full_kernels(product_dtype: torch.dtype | None) -> TritonFullKernels:
    return TritonFullKernels(product_dtype)


class Triton(Backend):
    """Triton kernels on CUDA tensors, or on CPU tensors in Triton's interpreter."""

    name = "triton"
    title = "Triton"
    device = "cuda"
    takes_narrow_inputs = True
    widens_half = False

    def missing(self, problem: Problem, facts: Machine) -> str | None:
        """Triton, or what it needs to compile."""
        return None if facts.triton else f"Triton is not available ({facts.triton_error})"

    def emulates(self, problem: Problem, facts: Machine) -> bool:
        """The interpreter, which takes a thousand times as long: only for who asks for it."""
        return facts.interpreter and problem.device == "cpu" and problem.asked

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> TritonKernels:
        """The contractions in the precision that torch has been asked for, now."""
        if weight.dtype is torch.float64:
            return _kernels("ieee", None)
        if product_dtype is not None and product_dtype in HALF:
            return _kernels(HALF[product_dtype], product_dtype)
        if weight.dtype in HALF:
            return _kernels(HALF[weight.dtype], None)
        return _kernels(float32_products(), None)

    def full_kernels(
        self, weight: Tensor, product_dtype: torch.dtype | None = None
    ) -> TritonFullKernels:
        """The contractions of full bases; torch's products have the precision asked of torch."""
        return _full_kernels(product_dtype if product_dtype in HALF else None)

    def gram(
        self,
        x: Tensor,
        knots: tuple[Tensor, Tensor],
        basis: WindowedBasis,
        derivatives: tuple[int, int],
        cotangent: Tensor | None,
    ) -> Tensor:
        """eq. 9 for the functions of two grids; see `cpu/spline.py`."""
        with on_device(x):
            return launches.gram(jit(), x, knots, basis, derivatives, cotangent)
