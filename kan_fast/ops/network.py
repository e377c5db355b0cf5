"""A whole stack of layers as one autograd node: for small networks a node costs more than a layer.

The kernels are those of single layers. With `create_graph` the stack becomes layers again, whose
values are known already, so every derivative that a layer has, a stack has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast.backends import BACKENDS
from kan_fast.backends.base import Kernels
from kan_fast.backends.plain import lacks_address
from kan_fast.layers.activations import known_activation
from kan_fast.layers.hooks import has_global_hooks, has_hooks
from kan_fast.layers.spline import KANLinear
from kan_fast.ops.autograd import Out, engine_wants
from kan_fast.ops.checks import fits
from kan_fast.ops.spline import basis_of, plain, plan_for
from kan_fast.ops.transforms import check_kinds, kinds_of
from kan_fast.spec import BasisSpec

#: knots, spline_weight, spline_scaler, base_weight
_PER_LAYER = 4


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


class _Stack(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bases: Sequence[BasisSpec], kernels: Kernels, *parameters: Tensor
    ) -> Tensor:
        outputs, ctx.of_network = _outputs(x, bases, kernels, parameters)
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
        need_x, _, _, *need = ctx.needs_input_grad
        # next_functions has an entry for each tensor; the first is x
        if not engine_wants(ctx.next_functions[1:]):
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
        if ctx.of_network is not None:
            found = ctx.kernels.network.in_weight(
                inputs, u, ctx.bases, parameters, need_x, need, ctx.of_network
            )
            if found is not None:
                return found[0], None, None, *found[1]
        gradients: list[Tensor | None] = [None] * len(parameters)
        for n in range(len(inputs) - 1, -1, -1):
            at = slice(_PER_LAYER * n + 1, _PER_LAYER * (n + 1))
            u, *gradients[at] = ctx.kernels.in_weight(
                inputs[n], u, None, *parameters[_PER_LAYER * n :][:_PER_LAYER], ctx.bases[n], 1, 0,
                (n > 0 or need_x, *need[at]),
            )  # fmt: skip
        return u, None, None, *gradients


class _Gradient(Function):
    """The gradients of a stack from one launch, as a node whose own backward is one launch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        u: Tensor,
        bases: Sequence[BasisSpec],
        kernels: Kernels,
        of_network: Tensor,
        need: Sequence[bool],
        *tensors: Tensor,
    ) -> tuple[Tensor | None, ...]:
        # inputs of the layers but the first, then parameters
        hidden, parameters = tensors[: len(bases) - 1], tensors[len(bases) - 1 :]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, u, *tensors)
        ctx.bases, ctx.kernels, ctx.of_network, ctx.need = bases, kernels, of_network, need
        z, gradients = kernels.network.in_weight(
            (x, *hidden), u, bases, parameters, need[0], need[1:], of_network
        )
        return z, *gradients

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        x, u, *tensors = ctx.saved_tensors
        before = len(ctx.bases) - 1
        inputs, parameters = (x, *tensors[:before]), tensors[before:]
        need_x, need_u, *rest = ctx.needs_input_grad
        need = rest[4 + before :]
        t, *others = cotangents
        found = None
        first_order = not torch.is_grad_enabled() and all(c is None for c in others)
        if first_order and t is not None:
            found = ctx.kernels.network.double_backward(
                inputs, u, t, ctx.bases, parameters, (need_x, need_u), need, ctx.of_network
            )
        if found is None:
            found = _twice(ctx, inputs, parameters, u, cotangents, (need_x, need_u, *need))
        grad_x, grad_u, gradients = found
        return grad_x, grad_u, *[None] * (4 + before), *gradients


def _outputs(
    x: Tensor, bases: Sequence[BasisSpec], kernels: Kernels, parameters: Sequence[Tensor | None]
) -> tuple[list[Tensor], Tensor | None]:
    """Of every layer: from one launch where the kernels have one for networks and this one fits,
    and then what their backward wants of it."""
    network = getattr(kernels, "network", None)
    found = None if network is None else network.out(x, bases, parameters)
    if found is not None:
        return found
    outputs = []
    for n, basis in enumerate(bases):
        x = kernels.out(x, None, *parameters[_PER_LAYER * n :][:_PER_LAYER], basis, 0)
        outputs.append(x)
    return outputs, None


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
    for n, (basis, value) in enumerate(zip(ctx.bases, values, strict=True)):
        layer = aliases[_PER_LAYER * n :][:_PER_LAYER]
        y = Out.apply(y, None, *layer, basis, _Recorded(ctx.kernels, value), 0)
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


def run(layers: Sequence[torch.nn.Module], x: Tensor) -> Tensor | None:
    """The layers on `x` as one node, or None where something needs them one by one.

    Hooks, subclasses, parametrised weights, activations that are not the kernels', other backends
    and torch's transforms do.
    """
    if x.dim() != 2 or x.dtype not in (torch.float32, torch.float64):
        return None
    if not plain(x.device.type) or has_global_hooks():
        return None
    bases = []
    parameters: list[Tensor | None] = []
    width, dtype, device = x.shape[1], x.dtype, x.device
    highest = 0
    for layer in layers:
        tensors = _tensors(layer)
        if tensors is None:
            return None
        activation = _activation(layer)
        if not isinstance(activation, str):
            return None
        if not fits(width, dtype, device, *tensors, layer.spline_order):
            return None
        bases.append(basis_of(layer.spline_order, activation))
        parameters += tensors
        width = tensors[1].shape[0]
        highest = max(highest, layer.spline_order)
    backend = plan_for(x, parameters[1], highest).backend
    if backend == "reference":
        return None
    kernels = BACKENDS[backend].kernels(parameters[1])
    if not torch.is_grad_enabled():
        return _outputs(x, bases, kernels, parameters)[0][-1]
    return super(Function, _Stack).apply(x, tuple(bases), kernels, *parameters)


def _tensors(layer: torch.nn.Module) -> tuple[Tensor | None, ...] | None:
    """Knots, spline_weight, spline_scaler and base_weight of a plain layer; None for any other."""
    own = layer._parameters
    if type(layer) is not KANLinear or has_hooks(layer) or "spline_weight" not in own:
        return None
    return (
        layer._buffers["grid"],
        own["spline_weight"],
        own.get("spline_scaler"),
        own.get("base_weight"),
    )


def _activation(layer: KANLinear) -> str | Callable[[Tensor], Tensor]:
    return known_activation(layer._modules.get("base_activation") or layer.base_activation)
