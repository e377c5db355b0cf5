"""The contractions of dense families by the native kernels, on CPU tensors."""

from __future__ import annotations

from typing import NamedTuple

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


class Base(NamedTuple):
    """A base branch on inputs of its own, with `weight` `[out_features, in_features]`."""

    x: Tensor
    weight: Tensor
    activation: str


_NO_BASE = (0, 0, 0, 0, 0)


def _base_numbers(base: Base | None) -> tuple[int, ...]:
    if base is None:
        return _NO_BASE
    return ACTIVATIONS[base.activation], base.x.data_ptr(), *base.x.stride(), base.weight.data_ptr()


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
) -> Tensor:
    """`y` of eq. 5; `knots` are the centers of a family that has some. `base` and `bias` `[out]`,
    contiguous, are added."""
    check_derivative(derivative)
    if batched.is_batched(v, spline_weight):
        return batched.out(x, v, knots, (spline_weight, None, None), basis, derivative)
    numbers, _alive = _layer_numbers(x, v, knots, spline_weight, basis)
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
    if batched.is_batched(u, v, spline_weight):
        parameters = (spline_weight, None, None)
        return batched.in_weight(
            x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
        )
    layer = (x, v, knots, spline_weight, basis)
    found = _gradients(layer, u, derivative_in, derivative_weight, need[:2], None, (False, False))
    return *found[:2], None, None


def in_weight_with_base(
    x: Tensor,
    u: Tensor,
    centers: Tensor | None,
    weight: Tensor,
    basis: DenseBasis,
    base: Base,
    need: tuple[bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight, base.x and base.weight in one pass; None where not needed."""
    return _gradients((x, None, centers, weight, basis), u, 1, 0, need[:2], base, need[2:])


def _gradients(
    layer: tuple,
    u: Tensor,
    derivative_in: int,
    derivative_weight: int,
    need: tuple[bool, bool],
    base: Base | None,
    base_need: tuple[bool, bool],
) -> tuple[Tensor | None, ...]:
    x, _, _, weight, _ = layer
    outputs = [
        torch.empty_like(t, memory_format=torch.contiguous_format) if wanted else None
        for t, wanted in ((x, need[0]), (weight, need[1]))
    ]
    outputs += [
        torch.empty_like(t, memory_format=torch.contiguous_format) if wanted else None
        for t, wanted in zip(base[:2] if base else (x, x), base_need, strict=True)
    ]
    numbers, _alive = _layer_numbers(*layer)
    addresses = [0 if t is None else t.data_ptr() for t in outputs]
    machine.extension().dense_in_weight(
        *numbers,
        derivative_in if need[0] else 0,
        derivative_weight,
        u.data_ptr(),
        *u.stride(),
        *addresses[:2],
        *_base_numbers(base),
        *addresses[2:],
    )
    return tuple(outputs)


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
