"""The native kernels on CPU tensors: addresses and strides to `kan_fast._C`."""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain as batched
from kan_fast.backends.cpu import full_basis as native_dense
from kan_fast.errors import check_derivative
from kan_fast.ops.autograd import Out
from kan_fast.spec import ACTIVATIONS, MAX_SPLINE_ORDER, BasisSpec, Problem

name = "native"
takes_narrow_inputs = False

#: the last two are computed in float32 and rounded once
DTYPES = ("float32", "float64", "bfloat16", "float16")


def why_not(problem: Problem, facts: machine.Machine) -> str | None:
    """The reason why this backend cannot run `problem`, as a sentence; None when it can."""
    if facts.extension is None:
        return f"the native extension is not available ({facts.extension_error})"
    if problem.device != "cpu":
        return f"the native kernels run on cpu tensors, got {problem.device}"
    if problem.dtype not in DTYPES:
        return f"the native kernels take {', '.join(DTYPES)}, got {problem.dtype}"
    if problem.spline_order > MAX_SPLINE_ORDER:
        return f"the native kernels go up to spline_order {MAX_SPLINE_ORDER}"
    if problem.transform is not None:
        return f"{problem.transform} needs plain torch operators"
    return None


def layer_numbers(
    x: Tensor,
    v: Tensor | None,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
) -> tuple[tuple[int, ...], tuple[Tensor | None, ...]]:
    """The leading arguments of every kernel, and the tensors that must outlive the call."""
    # kernels read parameters as contiguous; .contiguous() is free when they are
    knots = knots.contiguous()
    spline_weight = spline_weight.contiguous()
    if spline_scaler is not None:
        spline_scaler = spline_scaler.contiguous()
    if base_weight is not None:
        base_weight = base_weight.contiguous()
    x_row, x_col = x.stride()
    v_row, v_col = (0, 0) if v is None else v.stride()
    numbers = (
        x.dtype is torch.float64,
        x.shape[0],
        x.shape[1],
        spline_weight.shape[0],
        knots.shape[1],
        basis.spline_order,
        2 if base_weight is None else ACTIVATIONS[basis.activation],
        knots.data_ptr(),
        x.data_ptr(),
        x_row,
        x_col,
        0 if v is None else v.data_ptr(),
        v_row,
        v_col,
        spline_weight.data_ptr(),
        0 if spline_scaler is None else spline_scaler.data_ptr(),
        0 if base_weight is None else base_weight.data_ptr(),
    )
    return numbers, (knots, spline_weight, spline_scaler, base_weight)


def _call_in_weight(
    numbers: tuple[int, ...],
    derivatives: tuple[int, int],
    u: Tensor,
    outputs: tuple[Tensor | None, ...],
) -> None:
    machine.extension().contract_in_weight(
        *numbers,
        *derivatives,
        u.data_ptr(),
        *u.stride(),
        *[0 if t is None else t.data_ptr() for t in outputs],
    )


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
    if batched.lacks_address(x, v, *parameters):
        return batched.out(x, v, knots, parameters, basis, derivative)
    numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
    y = x.new_empty((x.shape[0], spline_weight.shape[0]))
    machine.extension().contract_out(*numbers, derivative, y.data_ptr())
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
    """`z` of eq. 6 and `S` of eq. 7 unfolded to the parameters, in one pass over `u`.

    Args:
        need: which of `z`, grad_spline_weight, grad_spline_scaler, grad_base_weight to compute.

    Returns:
        those four; None where not needed.
    """
    if need[0]:
        check_derivative(derivative_in)
    parameters = (spline_weight, spline_scaler, base_weight)
    if batched.lacks_address(x, u, v, *parameters):
        return batched.in_weight(
            x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
        )
    numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
    contiguous = torch.contiguous_format
    outputs = (
        torch.empty_like(x, memory_format=contiguous) if need[0] else None,
        torch.empty_like(spline_weight, memory_format=contiguous) if need[1] else None,
        torch.empty_like(spline_scaler, memory_format=contiguous) if need[2] else None,
        torch.empty_like(base_weight, memory_format=contiguous) if need[3] else None,
    )
    derivatives = (derivative_in if need[0] else 0, derivative_weight)
    _call_in_weight(numbers, derivatives, u, outputs)
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
    if batched.lacks_address(x, u, v):
        spline, base = batched.weight(x, u, v, knots, basis, derivative)
        return spline, base if with_base else None
    spline = x.new_empty(weight_shape)
    base = x.new_empty(weight_shape[:2]) if with_base else None
    # S does not depend on the weights; the kernel only reads their sizes, since neither z nor the
    # gradient of a scaler is asked for
    numbers, _alive = layer_numbers(x, v, knots, spline, None, base, basis)
    _call_in_weight(numbers, (0, derivative), u, (None, spline, None, base))
    return spline, base


def gram(
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: BasisSpec,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """eq. 9 for the functions of two grids, or with a cotangent the sum over its entries.

    Returns:
        `[in_features, num_basis + 1, other num_basis + 1]` in float64, or the shape of `x`.
    """
    first, second = (k.contiguous() for k in knots)
    rows, in_features = x.shape
    sizes = [k.shape[1] - basis.spline_order for k in (first, second)]
    found = x.new_empty((in_features, *sizes), dtype=torch.float64) if cotangent is None else None
    z = None if cotangent is None else torch.empty_like(x, memory_format=torch.contiguous_format)
    machine.extension().gram(
        x.dtype is torch.float64,
        rows,
        in_features,
        basis.spline_order,
        ACTIVATIONS[basis.activation],
        first.data_ptr(),
        first.shape[1],
        second.data_ptr(),
        second.shape[1],
        *derivatives,
        x.data_ptr(),
        *x.stride(),
        *[0 if t is None else t.data_ptr() for t in (found, cotangent, z)],
    )
    return found if z is None else z


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
        return kan_linear(
            *[t if t is None else t.float() for t in (x, knots, spline_weight, spline_scaler)],
            None if base_weight is None else base_weight.float(),
            basis,
        ).to(x.dtype)
    if not torch.is_grad_enabled():
        return out(x, None, knots, spline_weight, spline_scaler, base_weight, basis, 0)
    return Out.apply(
        x, None, knots, spline_weight, spline_scaler, base_weight, basis, _this_module, 0
    )


def kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> ModuleType:
    """The contractions, for `autograd.py`: those of this module."""
    return _this_module


def dense_kernels(weight: Tensor, product_dtype: torch.dtype | None = None) -> ModuleType:
    """The contractions of dense families; products are never rounded to `product_dtype`."""
    return native_dense


#: the same with a base branch on inputs of its own, in one call
dense_with_base = native_dense
_this_module = sys.modules[__name__]
