"""The CUDA C++ kernels on CUDA tensors: addresses, strides and the current stream to `kan_fast._C`.

Spline layers alone; the Gram matrix and dense families are Triton's.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.cuda.spline import CudaKernels
from kan_fast.backends.triton.backend import HALF, float32_products
from kan_fast.ops.autograd import Out
from kan_fast.spec import MAX_SPLINE_ORDER, BasisSpec, Problem

name = "cuda"
takes_narrow_inputs = False

#: coordinates and sums of the last two are in float32
DTYPES = ("float32", "float64", "bfloat16", "float16")


def why_not(problem: Problem, facts: machine.Machine) -> str | None:
    """The reason why this backend cannot run `problem`, as a sentence; None when it can."""
    if facts.extension is None:
        return f"the native extension is not available ({facts.extension_error})"
    emulated = facts.cuda_emulated and problem.device == "cpu" and problem.asked
    if not emulated:
        if not facts.cuda:
            return (
                "kan_fast was built without CUDA kernels; reinstall it where nvcc and a GPU are "
                "found, or with CMAKE_ARGS=-DKAN_FAST_CUDA=ON"
            )
        if problem.device != "cuda":
            return f"the CUDA kernels run on cuda tensors, got {problem.device}"
        if problem.capability is not None and problem.capability < machine.LEAST_CAPABILITY:
            found = "{}.{}".format(*problem.capability)
            return f"the CUDA kernels need a GPU of compute capability 8.0 or more, got {found}"
        if not problem.asked:
            return "the CUDA kernels have not run on a GPU yet; ask for them by backend='cuda'"
    if problem.dtype not in DTYPES:
        return f"the CUDA kernels take {', '.join(DTYPES)}, got {problem.dtype}"
    if problem.spline_order > MAX_SPLINE_ORDER:
        return f"the CUDA kernels go up to spline_order {MAX_SPLINE_ORDER}"
    if problem.transform is not None:
        return f"{problem.transform} needs plain torch operators"
    return None


@functools.cache
def _kernels(product: str | None) -> CudaKernels:
    return CudaKernels(product)


def kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> CudaKernels:
    """The contractions in the precision that torch has been asked for, now.

    Args:
        weight: a parameter of the layer.
        product_dtype: of products of half precision, or None.
    """
    if weight.dtype is torch.float64:
        return _kernels(None)
    return _kernels(HALF.get(product_dtype) or float32_products())


def kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """The layer on `x` of shape `[rows, in_features]`, differentiable."""
    if x.dtype in HALF:
        tensors = (x, knots, spline_weight, spline_scaler, base_weight)
        wide = [t if t is None else t.float() for t in tensors]
        return kan_linear(*wide, basis, product_dtype or x.dtype).to(x.dtype)
    layer = (knots, spline_weight, spline_scaler, base_weight, basis)
    chosen = kernels(spline_weight, product_dtype)
    if not torch.is_grad_enabled():
        return chosen.out(x, None, *layer, 0)
    return Out.apply(x, None, *layer, chosen, 0)
