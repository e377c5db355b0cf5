"""A whole network as one autograd node: for small networks a node costs more than a layer.

The kernels are those of single layers. With `create_graph` the network becomes layers again, whose
values are known already, so every derivative that a layer has, a network has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import Layer, Need, layers_of
from kan_fast.backends.plain import lacks_address
from kan_fast.ops.autograd import Out, engine_takes
from kan_fast.ops.transforms import check_kinds, kinds_of
from kan_fast.spec import WindowedBasis

#: knots, weight, scaler and base of a layer
_PER_LAYER = 4
#: arguments of `_Network.forward` before the parameters, and of `_Gradient.forward` before tensors
_BEFORE_PARAMETERS, _BEFORE_TENSORS = 3, 6


class _Recorded:
    """Kernels whose first forward is known."""

    def __init__(self, kernels: Kernels, value: Tensor) -> None:
        self.value: Tensor | None = value
        self.kernels = kernels
        self.in_weight = kernels.in_weight
        self.weight = kernels.weight

    def out(self, *args: Any) -> Tensor:
        value, self.value = self.value, None
        return self.kernels.out(*args) if value is None else value


class _Network(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bases: Sequence[WindowedBasis],
        kernels: Kernels,
        *parameters: Tensor | None,
    ) -> Tensor:
        outputs, ctx.of_network = outputs_of(x, layers_of(parameters, bases), kernels)
        # the inputs of the layers are the only activations that are kept
        ctx.save_for_backward(x, *outputs[:-1], *parameters)
        ctx.kinds = kinds_of((x, *outputs[:-1], *parameters))
        ctx.bases = bases
        ctx.kernels = kernels
        return outputs[-1]

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        check_kinds(ctx.kinds, saved)
        inputs, parameters = saved[: len(ctx.bases)], saved[len(ctx.bases) :]
        need_x, *need = ctx.needs_input_grad
        need = need[_BEFORE_PARAMETERS - 1 :]
        # next_functions has an entry for each tensor; the first is x
        if not engine_takes(ctx.next_functions[1:]):
            need = [False] * len(need)
        if torch.is_grad_enabled():
            if ctx.of_network is None or lacks_address(u, *saved):
                *_, found = _again(ctx, inputs, parameters, u, need_x, need)
            else:
                found = _Gradient.apply(
                    inputs[0], u, ctx.bases, ctx.kernels, ctx.of_network, (need_x, *need),
                    *inputs[1:], *parameters,
                )  # fmt: skip
            return found[0], None, None, *found[1:]
        layers, kernels = layers_of(parameters, ctx.bases), ctx.kernels
        if ctx.of_network is not None:
            needs = _needs_of(need_x, need)
            found = kernels.network.in_weight(inputs, u, layers, needs, ctx.of_network)
            if found is not None:
                return found[0][0], None, None, *_flat(found)
        gradients: list[Tensor | None] = [None] * len(parameters)
        for n in range(len(layers) - 1, -1, -1):
            at = slice(_PER_LAYER * n + 1, _PER_LAYER * (n + 1))  # knots have none
            wanted = (n > 0 or need_x, *need[at])
            u, *gradients[at] = kernels.in_weight(inputs[n], u, None, layers[n], 1, 0, wanted)
        return u, None, None, *gradients


def _needs_of(need_x: bool, need: Sequence[bool]) -> list[Need]:
    """Which gradients of every layer, from those of all parameters; knots have none."""
    return [(need_x, *need[n + 1 : n + _PER_LAYER]) for n in range(0, len(need), _PER_LAYER)]


def _flat(found: Sequence[tuple]) -> list[Tensor | None]:
    """The gradients of all parameters, of knots None."""
    return [t for each in found for t in (None, *each[1:])]


class _Gradient(Function):
    """The gradients of a network from one launch, as a node whose own backward is one launch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        u: Tensor,
        bases: Sequence[WindowedBasis],
        kernels: Kernels,
        of_network: Tensor,
        need: Sequence[bool],
        *tensors: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        # inputs of the layers but the first, then parameters
        hidden, parameters = tensors[: len(bases) - 1], tensors[len(bases) - 1 :]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, u, *tensors)
        ctx.bases, ctx.kernels, ctx.of_network, ctx.need = bases, kernels, of_network, need
        layers, needs = layers_of(parameters, bases), _needs_of(need[0], need[1:])
        found = kernels.network.in_weight((x, *hidden), u, layers, needs, of_network)
        return found[0][0], *_flat(found)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        x, u, *tensors = ctx.saved_tensors
        hidden = len(ctx.bases) - 1
        inputs, parameters = (x, *tensors[:hidden]), tensors[hidden:]
        need_x, need_u = ctx.needs_input_grad[:2]
        need = ctx.needs_input_grad[_BEFORE_TENSORS + hidden :]
        t, *others = cotangents
        found = None
        first_order = not torch.is_grad_enabled() and all(c is None for c in others)
        if first_order and t is not None:
            double = ctx.kernels.network.double_backward(
                inputs, u, t, layers_of(parameters, ctx.bases), _needs_of(need_x, need), need_u,
                ctx.of_network,
            )  # fmt: skip
            if double is not None:
                of_layers, grad_u = double
                found = of_layers[0][0], grad_u, _flat(of_layers)
        if found is None:
            found = _twice(ctx, inputs, parameters, u, cotangents, (need_x, need_u, *need))
        grad_x, grad_u, gradients = found
        no_others = [None] * (_BEFORE_TENSORS - 2 + hidden)
        return grad_x, grad_u, *no_others, *gradients


def outputs_of(
    x: Tensor, layers: Sequence[Layer], kernels: Kernels
) -> tuple[list[Tensor], Tensor | None]:
    """Of every layer: from one launch where the kernels have one for networks and this one fits,
    and then what their backward needs of it."""
    found = None if kernels.network is None else kernels.network.out(x, layers)
    if found is not None:
        return found
    outputs = []
    for layer in layers:
        x = kernels.out(x, None, layer, 0)
        outputs.append(x)
    return outputs, None


def run(x: Tensor, layers: Sequence[Layer], kernels: Kernels) -> Tensor:
    """A network on `x` `[rows, in_features]`, by kernels that take all of its layers."""
    if not torch.is_grad_enabled():
        return outputs_of(x, layers, kernels)[0][-1]
    bases: list[WindowedBasis] = []
    parameters: list[Tensor | None] = []
    for *tensors, basis in layers:
        bases.append(basis)
        parameters += tensors
    return super(Function, _Network).apply(x, tuple(bases), kernels, *parameters)


def _again(
    ctx: Any,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor | None],
    u: Tensor,
    need_x: bool,
    need: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None], list[Tensor | None]]:
    """The gradients as functions that can be differentiated, through the layers one by one; and
    before them x and the parameters that they are functions of."""
    # a parameter may serve twice: each place has a name of its own
    aliases = [None if t is None else t.view_as(t) for t in parameters]
    at = inputs[0].view_as(inputs[0])
    y = at
    # nobody reads the values of the last layer, only its derivatives
    values = [*[h.detach() for h in inputs[1:]], torch.empty_like(u)]
    for layer, value in zip(layers_of(aliases, ctx.bases), values, strict=True):
        y = Out.apply(y, None, *layer, _Recorded(ctx.kernels, value), 0)
    wanted = [at] * need_x + [t for t, needed in zip(aliases, need, strict=True) if needed]
    found = iter(torch.autograd.grad(y, wanted, u, create_graph=True) if wanted else ())
    return at, aliases, [next(found) if needed else None for needed in (need_x, *need)]


def _twice(
    ctx: Any,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor | None],
    u: Tensor,
    cotangents: Sequence[Tensor | None],
    need: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Gradients of x, u and the parameters for those of `_Gradient`'s results, layer by layer."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        u = u.view_as(u)
        at, aliases, results = _again(ctx, inputs, parameters, u, ctx.need[0], ctx.need[1:])
        pairs = [
            (result, cotangent)
            for result, cotangent in zip(results, cotangents, strict=True)
            if cotangent is not None and result is not None and result.requires_grad
        ]
        wanted = [t for t, needed in zip((at, u, *aliases), need, strict=True) if needed]
        found: Any = [None] * len(wanted)
        if pairs and wanted:
            found = torch.autograd.grad(
                [result for result, _ in pairs], wanted, [c for _, c in pairs],
                create_graph=create_graph, allow_unused=True,
            )  # fmt: skip
    each = iter(found)
    grad_x, grad_u, *gradients = [next(each) if needed else None for needed in need]
    return grad_x, grad_u, gradients
