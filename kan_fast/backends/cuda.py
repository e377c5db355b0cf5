"""The CUDA C++ kernels on CUDA tensors: addresses, strides and the current stream to `kan_fast._C`.

Spline layers alone; the Gram matrix and dense families are Triton's.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.autograd import Out
from kan_fast.backends import batched, cuda_network
from kan_fast.backends.devices import on_device, target_of
from kan_fast.backends.native import layer_numbers
from kan_fast.backends.triton import float32_products
from kan_fast.errors import check_derivative
from kan_fast.spec import MAX_SPLINE_ORDER, BasisSpec, Problem

name = "cuda"
takes_narrow_inputs = False

#: the last two are computed in float32 and rounded once
DTYPES = ("float32", "float64", "bfloat16", "float16")


def why_not(problem: Problem, facts: machine.Machine) -> str | None:
    """The reason why this backend cannot run `problem`, as a sentence; None when it can."""
    if facts.extension is None:
        return f"the native extension is not available ({facts.extension_error})"
    emulated = facts.cuda_emulated and problem.device == "cpu" and problem.asked
    if not emulated:
        if not facts.cuda:
            return "kan_fast was built without nvcc; install a CUDA toolkit and reinstall"
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


#: from so many outputs and up to so many functions tensor cores multiply all functions of an input,
#: of which most are zero; to be measured
_MMA_OUTPUTS, _MMA_FUNCTIONS = 16, 40
#: whether those of orders 1 to 3 are the structured-sparse ones: not before a GPU has confirmed who
#: holds which selector (mma.h)
sparse = False


def _passes(x: Tensor, spline_weight: Tensor) -> int | None:
    """Passes of TF32 that give the precision that torch has been asked for; None: no tensor
    cores."""
    outputs, _, functions = spline_weight.shape
    if x.dtype is not torch.float32 or outputs < _MMA_OUTPUTS or functions > _MMA_FUNCTIONS:
        return None
    return 3 if float32_products() == "tf32x3" else 1


def out(
    x: Tensor,
    v: Tensor | None,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    derivative: int,
) -> Tensor:
    """`y` of docs/math.md eq. 5, `[rows, out_features]`; `x` and `v` are `[rows, in_features]`."""
    check_derivative(derivative)
    parameters = (spline_weight, spline_scaler, base_weight)
    if batched.is_batched(v, *parameters):
        return batched.out(x, v, knots, parameters, basis, derivative)
    y = x.new_empty((x.shape[0], spline_weight.shape[0]))
    passes = _passes(x, spline_weight)
    with on_device(x):
        numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
        arguments = (*numbers, derivative, y.data_ptr())
        if passes is None:
            machine.extension().cuda_out(*arguments, *target_of(x))
        else:
            skips = sparse and 1 <= basis.spline_order <= 3
            machine.extension().cuda_mma_out(*arguments, passes, skips, *target_of(x))
    return y


def in_weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    derivative_in: int,
    derivative_weight: int,
    need: tuple[bool, bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """`z` of eq. 6 and `S` of eq. 7 unfolded to the parameters, from one launch; a second one adds
    up parts of the rows where there are several.

    Args:
        need: which of `z`, grad_spline_weight, grad_spline_scaler, grad_base_weight to compute.

    Returns:
        those four; None where not needed.
    """
    if need[0]:
        check_derivative(derivative_in)
    parameters = (spline_weight, spline_scaler, base_weight)
    if batched.is_batched(u, v, *parameters):
        return batched.in_weight(
            x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
        )
    outputs = tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format) if wanted else None
        for t, wanted in zip((x, *parameters), need, strict=True)
    )
    with on_device(x):
        numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
        partial = x.new_empty(machine.extension().cuda_partial_numbers(*numbers))
        machine.extension().cuda_in_weight(
            *numbers,
            derivative_in if need[0] else 0,
            derivative_weight,
            u.data_ptr(),
            *u.stride(),
            *[0 if t is None else t.data_ptr() for t in outputs],
            partial.data_ptr(),
            *target_of(x),
        )
    return outputs


def weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor,
    weight_shape: torch.Size,
    with_base: bool,
    basis: BasisSpec,
    derivative: int,
) -> tuple[Tensor, Tensor | None]:
    """`S` of eq. 7: its spline part `weight_shape`, and its base part or None."""
    check_derivative(derivative)
    if batched.is_batched(u, v):
        spline, base = batched.weight(x, u, v, knots, basis, derivative)
        return spline, base if with_base else None
    # S does not depend on the weights; only their sizes are read
    spline = x.new_empty(weight_shape)
    base = x.new_empty(weight_shape[:2]) if with_base else None
    need = (False, True, False, with_base)
    found = in_weight(x, u, v, knots, spline, None, base, basis, 0, derivative, need)
    return found[1], found[3]


def kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """The layer on `x` of shape `[rows, in_features]`, differentiable; products are never rounded
    to `product_dtype`."""
    if x.dtype not in (torch.float32, torch.float64):
        tensors = (x, knots, spline_weight, spline_scaler, base_weight)
        wide = [t if t is None else t.float() for t in tensors]
        return kan_linear(*wide, basis).to(x.dtype)
    layer = (knots, spline_weight, spline_scaler, base_weight, basis)
    if not torch.is_grad_enabled():
        return out(x, None, *layer, 0)
    return Out.apply(x, None, *layer, _this_module, 0)


def kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> ModuleType:
    """The contractions, for `autograd.py`: those of this module."""
    return _this_module


#: all layers of a small network in one launch
network = cuda_network
_this_module = sys.modules[__name__]
