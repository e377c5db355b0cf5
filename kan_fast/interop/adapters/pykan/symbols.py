"""pykan's symbolic branch: `mask (c f(a x + b) + d)` on every edge.

pykan evaluates all edges one by one. Here those are evaluated that have a function or a mask that
is not zero. The others add zero, and their parameters get what pykan gives them: gradients of zero,
or NaN where `x` or the incoming gradient is not finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import chain
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd import Function


def add(
    layer: Any, x: Tensor, y: Tensor, avoid: bool, y_th: float
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
    """`y` and the symbolic branch at `x`; then what `LayerActivations` takes of it.

    Args:
        layer: pykan's Symbolic_KANLayer.
        avoid, y_th: of pykan's forward.
    """
    y = _WithIdle.apply(y, layer.affine, x)
    edges = (layer.mask.detach() != 0).logical_or(_functions(layer, avoid)).nonzero(as_tuple=True)
    if edges[0].numel() == 0:
        return y, layer.affine, None, None
    values = _values(layer, x, edges, avoid, y_th)
    return y.index_add(1, edges[0], values), layer.affine, edges, values


def is_zero(function: Any) -> bool:
    """Whether a function is pykan's own that is zero everywhere."""
    return _is_zero(getattr(function, "__code__", None))


@functools.lru_cache(maxsize=256)
def _is_zero(code: CodeType | None) -> bool:
    """Whether it is the code of `x * 0`, with singularities avoided or not."""
    return any(
        code is not None
        and code.co_code == zero.co_code
        and code.co_consts == zero.co_consts
        and not (code.co_names or code.co_freevars)
        for zero in (_ZERO, _ZERO_AVOIDING)
    )


_ZERO = (lambda x: x * 0.0).__code__
_ZERO_AVOIDING = (lambda x, y_th: ((), x * 0.0)).__code__


def _functions(layer: Any, avoid: bool) -> Tensor:
    """`[out_dim, in_dim]`, or one number for all: which edges have a function of their own."""
    functions = layer.funs_avoid_singularity if avoid else layer.funs
    device = layer.mask.device
    # lists are compared by the identity of what is in them, in little time
    if _none.get(layer) != functions:
        own = [not is_zero(f) for f in chain.from_iterable(functions)]
        if any(own):
            return torch.tensor(own, device=device).reshape(layer.mask.shape)
        _none[layer] = [list(row) for row in functions]
    return torch.zeros((), dtype=torch.bool, device=device)


#: of layers, functions that were looked at and are zero, all of them
_none: WeakKeyDictionary[Any, list[list[Callable]]] = WeakKeyDictionary()


def _values(
    layer: Any, x: Tensor, edges: tuple[Tensor, Tensor], avoid: bool, y_th: float
) -> Tensor:
    """Values of some edges, `[rows, edges]`."""
    columns = []
    for o, i in zip(edges[0].tolist(), edges[1].tolist(), strict=True):
        a, b, c, d = layer.affine[o, i]
        at = a * x[:, [i]] + b
        if avoid:
            value = layer.funs_avoid_singularity[o][i](at, torch.tensor(y_th))[1]
        else:
            value = layer.funs[o][i](at)
        columns.append(layer.mask[o, i] * (c * value + d))
    return torch.cat(columns, dim=1)


class _WithIdle(Function):
    """y, and the gradients of `affine` on edges that add zero.

    Where x is not finite y is NaN in the whole row without this branch, and so are pykan's sums.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, affine: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return y + (affine * 0).sum((1, 2))

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return u, None, None
        of_x = (x * 0).sum(0)  # of a and c
        zero = torch.zeros_like(of_x)
        of_input = torch.stack([of_x, zero, of_x, zero], dim=-1)
        return u, (u * 0).sum(0).unsqueeze(1).unsqueeze(1) + of_input, None
