"""All layers of a small network in one launch: `stack.py` asks for it where a backend has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain as batched
from kan_fast.backends.cpu.backend import layer_numbers
from kan_fast.backends.devices import on_device, target_of
from kan_fast.spec import BasisSpec

#: knots, spline_weight, spline_scaler and base_weight of every layer, one after the other
_PER_LAYER = 4


def _layers(
    inputs: Sequence[Tensor], bases: Sequence[BasisSpec], parameters: Sequence[Tensor | None]
) -> tuple[list[tuple[int, ...]], list]:
    """Every layer's numbers, and tensors that must outlive the call."""
    found = [
        layer_numbers(x, None, *parameters[_PER_LAYER * n :][:_PER_LAYER], basis)
        for n, (x, basis) in enumerate(zip(inputs, bases, strict=True))
    ]
    return [numbers for numbers, _ in found], [alive for _, alive in found]


def _strided(t: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if t is None else (t.data_ptr(), *t.stride())


def _like(t: Tensor | None, wanted: bool) -> Tensor | None:
    if t is None or not wanted:
        return None
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def out(
    x: Tensor, bases: Sequence[BasisSpec], parameters: Sequence[Tensor | None]
) -> tuple[list[Tensor], Tensor] | None:
    """The outputs of all layers and what the backward wants of it, a counter of blocks; or None
    where the network does not fit into shared memory.

    Args:
        x: `[rows, in_features]`.
        bases: of the layers.
        parameters: knots, spline_weight, spline_scaler and base_weight of each.
    """
    if batched.lacks_address(x, *parameters):
        return None
    outputs = [
        x.new_empty((x.shape[0], parameters[_PER_LAYER * n + 1].shape[0]))
        for n in range(len(bases))
    ]
    is_double = x.dtype is torch.float64
    with on_device(x):
        numbers, _alive = _layers([x, *outputs[:-1]], bases, parameters)
        if machine.extension().cuda_network_size(is_double, numbers, False)[0] == 0:
            return None
        addresses = [y.data_ptr() for y in outputs]
        arrived = x.new_empty(1, dtype=torch.int32)
        machine.extension().cuda_network_out(
            is_double, numbers, addresses, arrived.data_ptr(), *target_of(x)
        )
    return outputs, arrived


def in_weight(
    inputs: Sequence[Tensor],
    u: Tensor,
    bases: Sequence[BasisSpec],
    parameters: Sequence[Tensor | None],
    need_x: bool,
    need: Sequence[bool],
    arrived: Tensor,
) -> tuple[Tensor | None, list[Tensor | None]] | None:
    """Gradients of x and of `parameters`, or None where transforms want them layer by layer.

    Args:
        inputs: of the layers; the first is x.
        u: `[rows, out_features]`, the gradient of the last output.
        need: which of `parameters` need one.
        arrived: from `out`.
    """
    found = _backward(inputs, u, None, bases, parameters, (need_x, False), need, arrived)
    return None if found is None else (found[0], found[2])


def double_backward(
    inputs: Sequence[Tensor],
    u: Tensor,
    t: Tensor,
    bases: Sequence[BasisSpec],
    parameters: Sequence[Tensor | None],
    need_x_and_u: tuple[bool, bool],
    need: Sequence[bool],
    arrived: Tensor,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]] | None:
    """Gradients of x, u and `parameters` for `t`, that of what `in_weight` returns for x; None
    where it does not fit into shared memory or transforms want it layer by layer."""
    return _backward(inputs, u, t, bases, parameters, need_x_and_u, need, arrived)


def _backward(
    inputs: Sequence[Tensor],
    u: Tensor,
    t: Tensor | None,
    bases: Sequence[BasisSpec],
    parameters: Sequence[Tensor | None],
    need_x_and_u: tuple[bool, bool],
    need: Sequence[bool],
    arrived: Tensor,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]] | None:
    if batched.lacks_address(u, t, *inputs, *parameters):
        return None
    x = inputs[0]
    is_double = x.dtype is torch.float64
    with on_device(x):
        numbers, _alive = _layers(inputs, bases, parameters)
        blocks, count = machine.extension().cuda_network_size(is_double, numbers, t is not None)
        if blocks == 0:
            return None
        z, grad_u = (_like(like, want) for like, want in zip((x, u), need_x_and_u, strict=True))
        gradients = [_like(p, wanted) for p, wanted in zip(parameters, need, strict=True)]
        addresses = [0 if p is None else p.data_ptr() for p in gradients]
        partial = x.new_empty(blocks * count)
        machine.extension().cuda_network_in_weight(
            is_double,
            numbers,
            _strided(u),
            0 if z is None else z.data_ptr(),
            [tuple(addresses[_PER_LAYER * n + 1 :][:3]) for n in range(len(bases))],
            _strided(t),
            0 if grad_u is None else grad_u.data_ptr(),
            partial.data_ptr(),
            arrived.data_ptr(),
            *target_of(x),
        )
    return z, grad_u, gradients
