"""The Gram matrix of the basis over a batch, and what it answers without any large tensor.

docs/math.md, section 7. Least squares of grid updates, and means and variances of all edge
functions, need no `[rows, out_features, in_features]` and no `[rows, in_features, num_basis]`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast import reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.base import Backend
from kan_fast.backends.plain import lacks_address
from kan_fast.ops.autograd import Weight
from kan_fast.ops.plan import plan_for
from kan_fast.spec import WindowedBasis


def _backend(x: Tensor, basis: WindowedBasis) -> Backend | None:
    """The backend whose kernels take `x`; None where plain torch has to."""
    if x.dtype not in (torch.float32, torch.float64):
        return None
    backend = BACKENDS[plan_for(x, x, basis.spline_order).backend]
    return None if backend.gram is None else backend


def _call(
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: WindowedBasis,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """The Gram matrix, or with a cotangent the sum over its entries for each row and input."""
    # create_graph: the same sums as a graph of torch operators
    by_torch = torch.is_grad_enabled() or lacks_address(x, *knots, cotangent)
    backend = None if by_torch else _backend(x, basis)
    run = _by_torch if backend is None else backend.gram
    return run(x, knots, basis, derivatives, cotangent)


class _Features(Function):
    """`reference.features`, which by itself is differentiable for derivative 0 only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, knots: Tensor, basis: WindowedBasis, derivative: int
    ) -> Tensor:
        ctx.save_for_backward(x, knots)
        ctx.rest = basis, derivative
        return reference.features(x, knots, basis, derivative)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, knots = ctx.saved_tensors
        basis, derivative = ctx.rest
        slope = _Features.apply(x, knots, basis, derivative + 1)
        return (u * slope).sum(-1), None, None, None


def _by_torch(
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: WindowedBasis,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """The same with torch operators, a slice of rows at a time."""
    wide = [k.double() for k in knots]
    found = []
    for rows in x.double().split(max(1, 2**22 // (knots[0].numel() + knots[1].numel()))):
        a, b = (_Features.apply(rows, k, basis, d) for k, d in zip(wide, derivatives, strict=True))
        if cotangent is None:
            found.append(torch.einsum("rig,rih->igh", a, b))
        else:
            found.append(torch.einsum("rig,igh,rih->ri", a, cotangent, b))
    return torch.stack(found).sum(0) if cotangent is None else torch.cat(found).to(x.dtype)


class _Gram(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, basis: WindowedBasis) -> Tensor:
        ctx.save_for_backward(x, first, second)
        ctx.basis = basis
        return _call(x, (first, second), basis, (0, 0), None)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        x, first, second = ctx.saved_tensors
        wide = cotangent.double().contiguous()
        if first is second:
            # b'_g b_h and b_g b'_h are each other's transpose
            wide = wide + wide.transpose(1, 2)
            grad = _call(x, (first, second), ctx.basis, (1, 0), wide)
        else:
            ways = ((1, 0), (0, 1))
            grad = sum(_call(x, (first, second), ctx.basis, d, wide) for d in ways)
        return grad, None, None, None


def gram(
    x: Tensor, knots: Tensor, basis: WindowedBasis, other_knots: Tensor | None = None
) -> Tensor:
    """gram[i,g,h] = sum_r b_g(x[r,i]) c_h(x[r,i]), in float64.

    Args:
        x: `[rows, in_features]`, float32 or float64 for the kernel.
        knots: `[in_features, num_knots]` of the functions b.
        basis: degree and base activation, which is the last function of b and of c.
        other_knots: knots of the functions c; those of b where None.

    Returns:
        `[in_features, num_basis + 1, other num_basis + 1]`, float64.
    """
    return _Gram.apply(x, knots, knots if other_knots is None else other_knots, basis)


def edge_statistics(
    x: Tensor, knots: Tensor, weight: Tensor, basis: WindowedBasis
) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over the rows of every edge function.

    Args:
        x: `[rows, in_features]`, at least one row.
        weight: `[out_features, in_features, num_basis + 1]`, the folded coefficients.

    Returns:
        two `[out_features, in_features]` in float64. Variances are at least zero; where one is zero
        its gradient is zero too.
    """
    x, knots, weight = x.double(), knots.double(), weight.double()
    second = gram(x, knots, basis) / x.shape[0]
    first = _means(x, knots, basis)
    mean = torch.einsum("oig,ig->oi", weight, first)
    # of the centred matrix, which loses nothing where the mean is large
    centred = second - first.unsqueeze(-1) * first.unsqueeze(-2)
    variance = torch.einsum("oig,igh,oih->oi", weight, centred, weight).clamp_min(0)
    # the difference above leaves a rounding of what has no spread
    return mean, variance.masked_fill((x == x[:1]).all(0), 0)


def _means(x: Tensor, knots: Tensor, basis: WindowedBasis) -> Tensor:
    """Mean of every function over the rows, `[in_features, num_basis + 1]`."""
    backend = _backend(x, basis)
    if backend is None:
        return reference.features(x, knots, basis).mean(0)
    num_basis = knots.shape[1] - 1 - basis.spline_order
    # one output that weighs all rows alike
    share = x.new_full((x.shape[0], 1), 1 / x.shape[0])
    shape = torch.Size((1, x.shape[1], num_basis))
    kernels = backend.kernels(x)
    spline, base = Weight.apply(x, share, None, knots, shape, True, basis, kernels, 0)
    return torch.cat([spline[0], base[0].unsqueeze(-1)], dim=-1)


class _MeanSize(Function):
    """mean_r |phi_oi(x[r,i])|, a slice of rows at a time in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: Tensor, weight: Tensor, basis: WindowedBasis) -> Tensor:
        ctx.save_for_backward(x, knots, weight)
        ctx.basis = basis
        total = torch.zeros_like(weight[..., 0])
        for rows in _slices(x, weight):
            phi = reference.features(rows, knots, basis)
            total += torch.einsum("rig,oig->roi", phi, weight).abs().sum(0)
        return total / x.shape[0]

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, knots, weight = ctx.saved_tensors
        grad_weight = torch.zeros_like(weight)
        grad_x = []
        for rows in _slices(x, weight):
            phi = _Features.apply(rows, knots, ctx.basis, 0)
            sign = torch.einsum("rig,oig->roi", phi, weight).sign() * (u / x.shape[0])
            grad_weight = grad_weight + torch.einsum("roi,rig->oig", sign, phi)
            slope = _Features.apply(rows, knots, ctx.basis, 1)
            grad_x.append(torch.einsum("roi,oig,rig->ri", sign, weight, slope))
        return torch.cat(grad_x), None, grad_weight, None


def _slices(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Rows so few at a time that rows x edges stays small."""
    return x.split(max(1, 2**20 // max(1, weight.numel() // weight.shape[-1])))


def edge_mean_size(x: Tensor, knots: Tensor, weight: Tensor, basis: WindowedBasis) -> Tensor:
    """Mean of |phi| over the rows for every edge function, `[out_features, in_features]`.

    Arguments as in `edge_statistics`; in float64.

    Source: Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756, eq. 2.17.
    """
    return _MeanSize.apply(x.double(), knots.double(), weight.double(), basis)
