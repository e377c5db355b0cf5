"""What create_graph, forward mode and vmap need of a contraction, whichever it is."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast.torch_internals import in_forward_mode, in_transform, is_wrapped, unwrap_if_dead

#: in C, since every step of every layer asks
_kind = operator.attrgetter("dtype", "shape")
_is_there = functools.partial(operator.is_not, None)


class Contraction(Function):
    """A Function without the microseconds that `Function.apply` spends on torch.func.

    Non-tensor arguments come last and end with (basis, kernels, derivative).
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if in_transform() or in_forward_mode():
            return _apply_uncompiled()(cls, *args)
        return super(Function, cls).apply(*args)


@functools.cache
def _apply_uncompiled() -> Callable[..., Any]:
    """Function.apply, kept from the compiler.

    Transforms around a compiled model run its frames one by one, and the compiler then tries each,
    this one without success.
    """

    def apply(function: type[Contraction], *args: Any) -> Any:
        return super(Contraction, function).apply(*args)

    return torch.compiler.disable(apply)


def keep(ctx: Any, tensors: tuple, rest: tuple) -> None:
    """Saves what backward and jvp need; tangents are rare, and saving for them costs time."""
    ctx.save_for_backward(*tensors)
    if in_forward_mode() or in_transform():
        ctx.save_for_forward(*tensors)
    ctx.rest = rest
    ctx.kinds = kinds_of(tensors)


def kinds_of(tensors: Iterable[Tensor | None]) -> list | None:
    """Dtype and shape of each tensor, to be compared in the backward; None inside of a transform,
    whose wrappers have other shapes."""
    return None if in_transform() else [*map(_kind, filter(_is_there, tensors))]


def check_kinds(kinds: list | None, tensors: Iterable[Tensor | None]) -> None:
    """Raises where a saved tensor is of another dtype or shape than in the forward.

    Assignments to `.data` give a parameter other memory, and autograd does not see them; kernels
    would read and write beyond it.
    """
    now = kinds_of(tensors)
    if kinds is not None and now is not None and now != kinds:
        before, after = next((b, a) for b, a in zip(kinds, now, strict=True) if b != a)
        raise RuntimeError(
            "kan_fast: a tensor of a layer was given another dtype or shape between forward and "
            f"backward, {_described(before)} and now {_described(after)}; run the forward again"
        )


def _described(kind: tuple) -> str:
    return f"{list(kind[1])} of {str(kind[0]).removeprefix('torch.')}"


def saved_tensors(ctx: Any) -> tuple[Tensor | None, ...]:
    """The saved tensors, out of the wrappers of a torch.func.vjp that has ended."""
    tensors = ctx.saved_tensors
    if not in_transform():
        for t in tensors:
            if t is not None and is_wrapped(t):
                return tuple(_unwrap(t) for t in tensors)
        check_kinds(ctx.kinds, tensors)
    return tensors


def _unwrap(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else unwrap_if_dead(tensor)


def unfold(
    spline: Tensor | None,
    base: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    need: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Differentiable form of the unfolding: gradients of the parameters from S."""
    grad_weight = grad_scaler = None
    if need[0]:
        grad_weight = spline if spline_scaler is None else spline * spline_scaler.unsqueeze(-1)
    if need[1]:
        grad_scaler = (spline * spline_weight).sum(-1)
    return grad_weight, grad_scaler, base if need[2] else None


def sum_of(terms: list[Tensor]) -> Tensor | None:
    """The sum of what there is."""
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def weight_tangents(
    weight: Tensor, scaler: Tensor | None, weight_t: Tensor, scaler_t: Tensor, base_t: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Tangents of the folded W: its spline part and its base part."""
    spline_t = weight_t
    if scaler is not None:
        spline_t = weight_t * scaler.unsqueeze(-1) + weight * scaler_t.unsqueeze(-1)
    return spline_t, base_t


def _rows_of_batch(tensor: Tensor | None, dim: int | None, batch: int) -> Tensor | None:
    """`[batch, rows, features]` as `[batch * rows, features]`."""
    if tensor is None:
        return None
    tensor = tensor.expand(batch, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.reshape(-1, tensor.shape[-1])


def one_by_one(function: type[Function], info: Any, in_dims: tuple, args: tuple) -> list:
    """The results of `function` for each element of the batch."""
    return [
        function.apply(
            *[
                a.select(dim, n) if isinstance(dim, int) else a
                for a, dim in zip(args, in_dims, strict=True)
            ]
        )
        for n in range(info.batch_size)
    ]


def vmap_over_rows(function: type[Function], info: Any, in_dims: tuple, args: tuple) -> tuple:
    """vmap of a contraction whose first two arguments have rows and whose result has them too."""
    if any(dim is not None for dim in in_dims[2:]):  # weights of their own: an ensemble
        return torch.stack(one_by_one(function, info, in_dims, args)), 0
    batch = info.batch_size
    first, second = (_rows_of_batch(args[n], in_dims[n], batch) for n in (0, 1))
    result = function.apply(first, second, *args[2:])
    return result.reshape(batch, -1, result.shape[-1]), 0
