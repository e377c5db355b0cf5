"""All layers of a small network in one launch, for `ops/network.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain
from kan_fast.backends.crossing import address, layer_numbers, strided
from kan_fast.backends.devices import on_device, target_of
from kan_fast.backends.layer import Gradients, Layer, Need


def _crossing(inputs: Sequence[Tensor], layers: Sequence[Layer]) -> tuple[list[Any], list]:
    """Every layer as the extension takes it, and tensors that must outlive the call."""
    found = [layer_numbers(x, None, layer) for x, layer in zip(inputs, layers, strict=True)]
    make = machine.extension().CudaLayer
    return [make(*numbers) for numbers, _ in found], [alive for _, alive in found]


def _like(t: Tensor | None, wanted: bool) -> Tensor | None:
    if t is None or not wanted:
        return None
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def _lacks_address(layers: Sequence[Layer]) -> bool:
    return any(plain.lacks_address(*layer[:4]) for layer in layers)


def out(x: Tensor, layers: Sequence[Layer]) -> tuple[list[Tensor], Tensor] | None:
    """The outputs of all layers and what the backward needs, a counter of blocks; or None where the
    network does not fit into shared memory. `x` is `[rows, in_features]`."""
    if plain.lacks_address(x) or _lacks_address(layers):
        return None
    outputs = [x.new_empty((x.shape[0], layer.weight.shape[0])) for layer in layers]
    is_double = x.dtype is torch.float64
    with on_device(x):
        crossing, _alive = _crossing([x, *outputs[:-1]], layers)
        if machine.extension().cuda_network_size(is_double, crossing, False)[0] == 0:
            return None
        arrived = x.new_empty(1, dtype=torch.int32)
        machine.extension().cuda_network_out(
            is_double, crossing, [*map(address, outputs)], arrived.data_ptr(), *target_of(x)
        )
    return outputs, arrived


def in_weight(
    inputs: Sequence[Tensor],
    u: Tensor,
    layers: Sequence[Layer],
    need: Sequence[Need],
    arrived: Tensor,
) -> list[Gradients] | None:
    """The gradients of every layer, those of hidden inputs left out; None where transforms take the
    layers one by one.

    Args:
        inputs: of the layers; the first is x.
        u: `[rows, out_features]`, the gradient of the last output.
        need: of every layer; of inputs, that of the first counts.
        arrived: from `out`.
    """
    found = _backward(inputs, u, None, layers, need, False, arrived)
    return None if found is None else found[0]


def double_backward(
    inputs: Sequence[Tensor],
    u: Tensor,
    t: Tensor,
    layers: Sequence[Layer],
    need: Sequence[Need],
    need_u: bool,
    arrived: Tensor,
) -> tuple[list[Gradients], Tensor | None] | None:
    """The gradients of every layer and of u for `t`, that of what `in_weight` returns for x; None
    where it does not fit into shared memory or transforms take the layers one by one."""
    return _backward(inputs, u, t, layers, need, need_u, arrived)


def _backward(
    inputs: Sequence[Tensor],
    u: Tensor,
    t: Tensor | None,
    layers: Sequence[Layer],
    need: Sequence[Need],
    need_u: bool,
    arrived: Tensor,
) -> tuple[list[Gradients], Tensor | None] | None:
    if plain.lacks_address(u, t, *inputs) or _lacks_address(layers):
        return None
    x, extension = inputs[0], machine.extension()
    is_double = x.dtype is torch.float64
    with on_device(x):
        crossing, _alive = _crossing(inputs, layers)
        blocks, count = extension.cuda_network_size(is_double, crossing, t is not None)
        if blocks == 0:
            return None
        z, grad_u = _like(x, need[0][0]), _like(u, need_u)
        gradients = [
            tuple(map(_like, (layer.weight, layer.scaler, layer.base), wanted[1:]))
            for layer, wanted in zip(layers, need, strict=True)
        ]
        partial = x.new_empty(blocks * count)
        extension.cuda_network_in_weight(
            is_double,
            crossing,
            extension.CudaStrided(*strided(u)),
            address(z),
            [extension.CudaGradients(*map(address, each)) for each in gradients],
            extension.CudaStrided(*strided(t)),
            address(grad_u),
            partial.data_ptr(),
            arrived.data_ptr(),
            *target_of(x),
        )
    inputs_of = [z, *[None] * (len(layers) - 1)]
    return [(z, *each) for z, each in zip(inputs_of, gradients, strict=True)], grad_u
