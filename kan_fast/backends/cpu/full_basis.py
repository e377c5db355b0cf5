"""The contractions of dense families by the native kernels, on CPU tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain as batched
from kan_fast.errors import check_derivative
from kan_fast.spec import ACTIVATIONS, DENSE_FAMILIES, DenseBasis


class Norm(NamedTuple):
    """Layer normalisation of x before the functions; `weight` and `bias` `[in_features]`,
    contiguous, or None."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    #: `[2, stride]`, see `statistics_for`: `out` writes it, the backward reads it
    statistics: Tensor


def statistics_for(x: Tensor) -> Tensor:
    """Memory for mean and 1 / deviation of every row."""
    return x.new_empty((2, -(-x.shape[0] // 64) * 64))


_NO_NORM = (0, 0, 0.0, 0, 0)


def _norm_numbers(norm: Norm | None) -> tuple:
    if norm is None:
        return _NO_NORM
    return (
        0 if norm.weight is None else norm.weight.data_ptr(),
        0 if norm.bias is None else norm.bias.data_ptr(),
        norm.eps,
        norm.statistics.data_ptr(),
        norm.statistics.shape[1],
    )


def _readable(weight: Tensor) -> Tensor:
    """The weights where the kernels can read them: functions next to each other, and no gaps, with
    outputs first (ours) or inputs first (ChebyKAN's)."""
    if weight.is_contiguous() or weight.transpose(0, 1).is_contiguous():
        return weight
    return weight.contiguous()


def _layer_numbers(
    x: Tensor,
    v: Tensor | None,
    centers: Tensor | None,
    weight: Tensor,
    basis: DenseBasis,
    norm: Norm | None,
) -> tuple[tuple, Tensor | None]:
    """The leading arguments of both kernels, and a tensor that must outlive the call."""
    centers = None if centers is None else centers.contiguous()
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
        *weight.stride()[:2],
        *_norm_numbers(norm),
    )
    return numbers, centers


class Base(NamedTuple):
    """A base branch on inputs of its own; `weight` `[out_features, in_features]`, contiguous."""

    x: Tensor
    weight: Tensor
    activation: str


_NO_BASE = (0, 0, 0, 0, 0, 0, 0)


def _base_numbers(base: Base | None) -> tuple[int, ...]:
    if base is None:
        return _NO_BASE
    return (
        ACTIVATIONS[base.activation],
        base.x.data_ptr(),
        *base.x.stride(),
        base.weight.data_ptr(),
        *base.weight.stride(),
    )


def out(
    x: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: None,
    base_weight: None,
    basis: DenseBasis,
    derivative: int,
    base: Base | None = None,
    bias: Tensor | None = None,
    norm: Norm | None = None,
) -> Tensor:
    """`y` of eq. 5; `knots` are the centers of a family that has some. `base` and `bias` `[out]`,
    contiguous, are added; `norm` comes before the functions."""
    check_derivative(derivative)
    if batched.lacks_address(x, v, spline_weight):
        return batched.out(x, v, knots, (spline_weight, None, None), basis, derivative)
    spline_weight = _readable(spline_weight)
    numbers, _alive = _layer_numbers(x, v, knots, spline_weight, basis, norm)
    y = x.new_empty((x.shape[0], spline_weight.shape[0]))
    machine.extension().dense_out(
        *numbers, derivative, y.data_ptr(), *_base_numbers(base),
        0 if bias is None else bias.data_ptr(),
    )  # fmt: skip
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
    if batched.lacks_address(x, u, v, spline_weight):
        parameters = (spline_weight, None, None)
        return batched.in_weight(
            x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
        )
    layer = (x, v, knots, spline_weight, basis, None)
    found = _gradients(layer, u, derivative_in, derivative_weight, need[:2], False)
    return *found[:2], None, None


class Gradients(NamedTuple):
    """Of a layer with a base branch and a normalisation; None where not asked for."""

    x: Tensor | None
    weight: Tensor | None
    base_x: Tensor | None
    base_weight: Tensor | None
    #: `[2, in_features]`, of the norm's weight and bias
    norm: Tensor | None


def in_weight_with_base(
    x: Tensor,
    u: Tensor,
    centers: Tensor | None,
    weight: Tensor,
    basis: DenseBasis,
    base: Base | None,
    norm: Norm | None,
    need: Gradients,
) -> Gradients:
    """All gradients in one pass. Where `base.x` is `x`, the gradient of x has both parts."""
    need_norm = norm is not None and need.norm
    layer = (x, None, centers, weight, basis, norm)
    needs = need.x, need.weight
    return _gradients(layer, u, 1, 0, needs, need_norm, base, (need.base_x, need.base_weight))


def _gradients(
    layer: tuple,
    u: Tensor,
    derivative_in: int,
    derivative_weight: int,
    need: tuple[bool, bool],
    need_norm: bool,
    base: Base | None = None,
    base_need: tuple[bool, bool] = (False, False),
) -> Gradients:
    x, v, centers, weight, basis, norm = layer
    weight = _readable(weight)
    z = torch.empty_like(x, memory_format=torch.contiguous_format) if need[0] else None
    grad = torch.empty_like(weight) if need[1] else None
    grad_norm = x.new_empty((2, x.shape[1])) if need_norm else None
    base_z = base_grad = None
    joined = base is not None and base.x is x
    if base is not None:
        if base_need[0] and not joined:
            base_z = torch.empty_like(base.x, memory_format=torch.contiguous_format)
        base_grad = torch.empty_like(base.weight) if base_need[1] else None
    numbers, _alive = _layer_numbers(x, v, centers, weight, basis, norm)
    address = [0 if t is None else t.data_ptr() for t in (z, grad, grad_norm, base_z, base_grad)]
    machine.extension().dense_in_weight(
        *numbers,
        derivative_in if need[0] or need_norm else 0,
        derivative_weight,
        u.data_ptr(),
        *u.stride(),
        *address[:3],
        *_base_numbers(base),
        address[0] if joined else address[3],
        address[4],
    )
    return Gradients(z, grad, base_z, base_grad, grad_norm)


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
    if batched.lacks_address(x, u, v):
        return batched.weight(x, u, v, knots, basis, derivative)
    # the kernel reads no weights where z is not asked for
    shape = x.new_empty(weight_shape)
    needs = (False, True, False, False)
    return in_weight(x, u, v, knots, shape, None, None, basis, 0, derivative, needs)[1], None
