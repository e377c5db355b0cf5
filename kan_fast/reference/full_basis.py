"""Layers of families whose functions are all active everywhere (docs/math.md, section 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.reference.activation import activation
from kan_fast.reference.chebyshev import chebyshev_basis
from kan_fast.reference.gaussian_rbf import gaussian_rbf_basis
from kan_fast.spec import FullBasis


def full_features(
    x: Tensor, centers: Tensor | None, basis: FullBasis, derivative: int = 0
) -> Tensor:
    """`[..., in_features, num_basis]`: the functions of the family at `x`."""
    if basis.family == "gaussian_rbf":
        return gaussian_rbf_basis(x, centers, basis.width, derivative)
    if basis.family == "activation":
        return activation(basis.activation, x, derivative).unsqueeze(-1)
    if basis.family == "chebyshev":
        return chebyshev_basis(x, basis.num_basis, derivative)
    raise ValueError(f"kan_fast: the oracle has no family {basis.family!r}")


def full_linear(x: Tensor, centers: Tensor | None, weight: Tensor, basis: FullBasis) -> Tensor:
    """y[..., o] = sum_i sum_g W[o,i,g] b_g(x[..., i]), differentiable by torch itself.

    Args:
        x: `[..., in_features]`.
        centers: `[num_basis]` of Gaussians, else None.
        weight: `[out_features, in_features, num_basis]`.
    """
    # half precision would move x across centers: the functions are float32 at least
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    phi = full_features(wide, centers, basis).to(x.dtype)
    return torch.nn.functional.linear(phi.flatten(-2), weight.flatten(-2))
