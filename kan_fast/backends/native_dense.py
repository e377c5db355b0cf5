"""The contractions of dense families by the native kernels, on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import batched
from kan_fast.errors import check_derivative
from kan_fast.spec import ACTIVATIONS, DENSE_FAMILIES, DenseBasis


def _layer_numbers(
    x: Tensor, v: Tensor | None, centers: Tensor | None, weight: Tensor, basis: DenseBasis
) -> tuple[tuple, tuple[Tensor | None, ...]]:
    """The leading arguments of both kernels, and the tensors that must outlive the call."""
    centers = None if centers is None else centers.contiguous()
    weight = weight.contiguous()
    numbers = (
        x.dtype is torch.float64,
        *x.shape,
        weight.shape[0],
        DENSE_FAMILIES[basis.family],
        basis.num_basis,
        ACTIVATIONS[basis.activation],
        basis.width,
        0 if centers is None else centers.data_ptr(),
        x.data_ptr(),
        *x.stride(),
        *((0, 0, 0) if v is None else (v.data_ptr(), *v.stride())),
        weight.data_ptr(),
    )
    return numbers, (centers, weight)


def out(
    x: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: None,
    base_weight: None,
    basis: DenseBasis,
    derivative: int,
) -> Tensor:
    """`y` of eq. 5; `knots` are the centers of a family that has some."""
    check_derivative(derivative)
    if batched.is_batched(v, spline_weight):
        return batched.out(x, v, knots, (spline_weight, None, None), basis, derivative)
    numbers, _alive = _layer_numbers(x, v, knots, spline_weight, basis)
    y = x.new_empty((x.shape[0], spline_weight.shape[0]))
    machine.extension().dense_out(*numbers, derivative, y.data_ptr())
    return y


def in_weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: None,
    base_weight: None,
    basis: DenseBasis,
    derivative_in: int,
    derivative_weight: int,
    need: tuple[bool, bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, None, None]:
    """`z` of eq. 6 and `S` of eq. 7 in one pass; None where not needed."""
    if need[0]:
        check_derivative(derivative_in)
    if batched.is_batched(u, v, spline_weight):
        parameters = (spline_weight, None, None)
        return batched.in_weight(
            x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
        )
    z = torch.empty_like(x, memory_format=torch.contiguous_format) if need[0] else None
    grad = x.new_empty(spline_weight.shape) if need[1] else None
    numbers, _alive = _layer_numbers(x, v, knots, spline_weight, basis)
    machine.extension().dense_in_weight(
        *numbers,
        derivative_in if need[0] else 0,
        derivative_weight,
        u.data_ptr(),
        *u.stride(),
        *[0 if t is None else t.data_ptr() for t in (z, grad)],
    )
    return z, grad, None, None


def weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    weight_shape: torch.Size,
    with_base: bool,
    basis: DenseBasis,
    derivative: int,
) -> tuple[Tensor, None]:
    """`S` of eq. 7."""
    check_derivative(derivative)
    if batched.is_batched(u, v):
        return batched.weight(x, u, v, knots, basis, derivative)
    # the kernel reads no weights where z is not asked for
    shape = x.new_empty(weight_shape)
    needs = (False, True, False, False)
    return in_weight(x, u, v, knots, shape, None, None, basis, 0, derivative, needs)[1], None
