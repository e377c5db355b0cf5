"""All edges of a pykan layer, one by one: tensors of `[rows, out_dim, in_dim]` that somebody wants.

pykan evaluates every function of the basis on every row; here those that are not zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast import reference
from kan_fast.ops.spline import kan_linear


class _Features(Function):
    """`[in_dim, rows, num_basis + 1]`: B-splines, zero where x is not finite as in pykan; `base`.

    Knots are strictly increasing. Derivatives of any order are those of the recurrence.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor, knots: Tensor, order: int) -> Tensor:
        ctx.save_for_backward(x, knots)
        ctx.order = order
        found = _splines(x.t().contiguous(), knots.contiguous(), order)
        found[..., -1] = base.t()
        return found

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, knots = ctx.saved_tensors
        slope = _Slope.apply(x, knots, ctx.order, 1)
        return (u[..., :-1] * slope.transpose(0, 1)).sum(-1).t(), u[..., -1].t(), None, None


def _by_kernel(x: Tensor, knots: Tensor, order: int, activation: str) -> Tensor:
    """The same where all inputs have the same knots: a layer with one input, whose outputs are the
    functions."""
    num_basis = knots.shape[1] - 1 - order
    one = torch.eye(num_basis + 1, dtype=x.dtype, device=x.device)
    spline, base = one[:, None, :-1].contiguous(), one[:, -1:].contiguous()
    found = kan_linear(
        x.t().reshape(-1, 1), knots, spline, None, base,
        spline_order=order, base_activation=activation,
    )  # fmt: skip
    return found.reshape(x.shape[1], x.shape[0], num_basis + 1)


class _Slope(Function):
    """`[rows, in_dim, num_basis]`: a derivative of the B-splines."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: Tensor, order: int, derivative: int) -> Tensor:
        ctx.save_for_backward(x, knots)
        ctx.rest = order, derivative
        found = reference.bspline_basis(x, knots, order, derivative)
        return found.masked_fill(~x.isfinite().unsqueeze(-1), 0)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, None, None, None]:
        x, knots = ctx.saved_tensors
        order, derivative = ctx.rest
        slope = _Slope.apply(x, knots, order, derivative + 1)
        return (u * slope).sum(-1), None, None, None


def _splines(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """The functions at `[in_dim, rows]`, and one more column for the caller to fill.

    Source: Piegl and Tiller, The NURBS Book, algorithm A2.2.
    """
    count = knots.shape[1]
    # knots[cell] <= x < knots[cell + 1]; what is not a number comes after the last
    cell = torch.searchsorted(knots, x, right=True) - 1
    inside = (cell >= 0) & (cell < count - 1)
    cell = cell.clamp(0, count - 2)
    beyond = torch.arange(1, order + 1, dtype=knots.dtype, device=knots.device)
    padded = torch.cat([knots[:, :1] - beyond.flip(0), knots, knots[:, -1:] + beyond], dim=1)
    left = [x - padded.gather(1, cell + order - j) for j in range(order)]
    right = [padded.gather(1, cell + order + 1 + j) - x for j in range(order)]
    values = [torch.ones_like(x)]
    for degree in range(order):
        carried = None
        for n in range(degree + 1):
            share = values[n] / (right[n] + left[degree - n])
            kept = right[n] * share
            values[n] = kept if carried is None else kept + carried
            carried = left[degree - n] * share
        values.append(carried)
    num_basis = count - 1 - order
    first = cell - order
    found = x.new_zeros(*x.shape, num_basis + 1)
    for n, value in enumerate(values):
        at = first + n
        # functions of the knots beyond either end do not exist
        exists = inside & (at >= 0) & (at < num_basis)
        where = torch.where(exists, at, num_basis).unsqueeze(-1)
        found.scatter_(2, where, value.unsqueeze(-1))
    return found


def postspline_and_postacts(
    x: Tensor, activation: str, knots: Tensor, order: int, parameters: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """`[rows, out_dim, in_dim]` both: the splines, neither scaled nor masked, and the values of all
    edges.

    Args:
        activation: the kernels' name of the base function.
        parameters: coef, scale_sp, scale_base and mask.
    """
    coef, scale_sp, scale_base, mask = parameters
    # grids that were never updated are all the same
    if bool((knots[1:] == knots[:1]).all()) and bool(x.isfinite().all()):
        features = _by_kernel(x, knots[:1], order, activation)
    else:
        features = _Features.apply(x, reference.activation(activation, x), knots, order)
    folded = torch.cat(
        [(scale_sp * mask).unsqueeze(-1) * coef, (scale_base * mask).unsqueeze(-1)], dim=-1
    )
    # two products: neither result is kept for the backward of the other
    postspline = torch.bmm(features[..., :-1], coef.transpose(1, 2))
    postacts = torch.bmm(features, folded.transpose(1, 2))
    return postspline.permute(1, 2, 0), postacts.permute(1, 2, 0)
