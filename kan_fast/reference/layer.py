"""The layer and its three contractions, on the expanded features (docs/math.md, eq. 4 to 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.reference.activation import activation
from kan_fast.reference.bspline import bspline_basis
from kan_fast.spec import WindowedBasis


def features(x: Tensor, knots: Tensor, basis: WindowedBasis, derivative: int = 0) -> Tensor:
    """`[..., in_features, num_basis + 1]`: the spline functions, then the base activation."""
    splines = bspline_basis(x, knots, basis.spline_order, derivative)
    base = activation(basis.activation, x, derivative)
    return torch.cat([splines, base.unsqueeze(-1)], dim=-1)


def fold(spline_weight: Tensor, spline_scaler: Tensor | None, base_weight: Tensor | None) -> Tensor:
    """W = [scaler * spline_weight | base_weight], `[out_features, in_features, num_basis + 1]`."""
    if spline_scaler is not None:
        spline_weight = spline_weight * spline_scaler.unsqueeze(-1)
    if base_weight is None:
        base_weight = torch.zeros_like(spline_weight[..., 0])
    return torch.cat([spline_weight, base_weight.unsqueeze(-1)], dim=-1)


def contract_out(phi: Tensor, weight: Tensor, v: Tensor | None = None) -> Tensor:
    """y[r,o] = sum_i v[r,i] sum_g W[o,i,g] phi[r,i,g]."""
    if v is not None:
        phi = phi * v.unsqueeze(-1)
    return torch.einsum("...ig,oig->...o", phi, weight)


def contract_in(phi: Tensor, weight: Tensor, u: Tensor) -> Tensor:
    """z[r,i] = sum_o u[r,o] sum_g W[o,i,g] phi[r,i,g]."""
    return torch.einsum("...ig,oig,...o->...i", phi, weight, u)


def contract_weight(phi: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
    """S[o,i,g] = sum_r u[r,o] v[r,i] phi[r,i,g]."""
    if v is not None:
        phi = phi * v.unsqueeze(-1)
    return torch.einsum("rig,ro->oig", phi, u)


def kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: WindowedBasis,
) -> Tensor:
    """The layer, differentiable any number of times by torch itself.

    Args:
        x: `[..., in_features]`.
        knots: `[in_features, grid_size + 2 * spline_order + 1]`.
        spline_weight: `[out_features, in_features, num_basis]`.
        spline_scaler: `[out_features, in_features]` or None for ones.
        base_weight: `[out_features, in_features]` or None for no base branch.
        basis: the fixed functions.

    Returns:
        `[..., out_features]`.
    """
    # half precision would move x across cells: the basis is float32 at least
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    splines = bspline_basis(wide, knots, basis.spline_order).to(x.dtype)
    if spline_scaler is not None:
        spline_weight = spline_weight * spline_scaler.unsqueeze(-1)
    y = torch.nn.functional.linear(splines.flatten(-2), spline_weight.flatten(-2))
    if base_weight is not None:
        y = y + torch.nn.functional.linear(activation(basis.activation, x), base_weight)
    return y
