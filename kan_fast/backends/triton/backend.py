"""The Triton kernels on CUDA tensors, in the precision that torch was asked for.

`kernels/triton_jit` holds the device code, `triton_launch.py` the launches, `tiles.py` the choice
of tiles.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.devices import on_device
from kan_fast.backends.triton import full_basis_values as triton_dense
from kan_fast.backends.triton import gram as triton_gram
from kan_fast.backends.triton.arguments import jit
from kan_fast.backends.triton.full_basis import DenseKernels
from kan_fast.backends.triton.spline import TritonKernels
from kan_fast.ops.autograd import Out
from kan_fast.spec import MAX_SPLINE_ORDER, BasisSpec, Problem

name = "triton"
#: x may be narrower than the weights, as under autocast
takes_narrow_inputs = True

DTYPES = ("float32", "float64", "bfloat16", "float16")
#: what torch.set_float32_matmul_precision asks for, as products of tensor cores
_PRECISIONS = {"highest": "tf32x3", "high": "tf32", "medium": "bf16"}
#: products of half precision, as tensor cores name them
HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def why_not(problem: Problem, facts: machine.Machine) -> str | None:
    """The reason why this backend cannot run `problem`, as a sentence; None when it can."""
    if facts.triton is None:
        return f"Triton is not available ({facts.triton_error})"
    # the interpreter takes a thousand times as long: only for who asks for it
    interpreted = facts.interpreter and problem.device == "cpu" and problem.asked
    if problem.device != "cuda" and not interpreted:
        return f"the Triton kernels run on cuda tensors, got {problem.device}"
    if problem.capability is not None and problem.capability < machine.LEAST_CAPABILITY:
        found = "{}.{}".format(*problem.capability)
        return f"the Triton kernels need a GPU of compute capability 8.0 or more, got {found}"
    if problem.dtype not in DTYPES:
        return f"the Triton kernels take {', '.join(DTYPES)}, got {problem.dtype}"
    if problem.spline_order > MAX_SPLINE_ORDER:
        return f"the Triton kernels go up to spline_order {MAX_SPLINE_ORDER}"
    if problem.transform is not None:
        return f"{problem.transform} needs plain torch operators"
    return None


def float32_products() -> str:
    """How torch has been asked to multiply float32 matrices, through either of its switches."""
    try:
        return _PRECISIONS[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set through torch.backends, which the older switch cannot put in words
        wanted = torch.backends.cuda.matmul.fp32_precision
        if wanted == "none":
            wanted = torch.backends.fp32_precision
        return "tf32" if wanted == "tf32" else "tf32x3"


@functools.cache
def _kernels(precision: str, out_dtype: torch.dtype | None) -> TritonKernels:
    return TritonKernels(precision, out_dtype)


def kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> TritonKernels:
    """The contractions in the precision that torch has been asked for, now.

    Args:
        weight: a parameter of the layer.
        product_dtype: of autocast, or None.
    """
    if weight.dtype is torch.float64:
        return _kernels("ieee", None)
    if product_dtype is not None and product_dtype in HALF:
        return _kernels(HALF[product_dtype], product_dtype)
    if weight.dtype in HALF:
        return _kernels(HALF[weight.dtype], None)
    return _kernels(float32_products(), None)


@functools.cache
def _dense(dtype: torch.dtype | None) -> DenseKernels:
    return DenseKernels(triton_dense, dtype)


def dense_kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> DenseKernels:
    """The contractions of dense families; torch's products have the precision asked of torch."""
    return _dense(product_dtype if product_dtype in HALF else None)


def gram(
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: BasisSpec,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """eq. 9 for the functions of two grids; see `native.gram`."""
    with on_device(x):
        return triton_gram.gram(jit(), x, knots, basis, derivatives, cotangent)


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
    chosen = kernels(spline_weight, product_dtype)
    layer = (knots, spline_weight, spline_scaler, base_weight, basis)
    if not torch.is_grad_enabled():
        return chosen.out(x, None, *layer, 0)
    return Out.apply(x, None, *layer, chosen, 0)
