"""Gaussian radial basis functions (docs/math.md, eq. 11)."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_rbf_basis(x: Tensor, centers: Tensor, width: float, derivative: int = 0) -> Tensor:
    """The `derivative`-th derivative of exp(-((x - u_g) / width)^2) for all centers u_g.

    Args:
        x: any shape, any float dtype.
        centers: `[num_basis]`.
        width: > 0.

    Returns:
        `[*x.shape, num_basis]` in the dtype of `x`.
    """
    s = (x.unsqueeze(-1) - centers.to(x.dtype)) / width
    value = torch.exp(-(s**2))
    # physicists' Hermite polynomials
    previous, hermite = torch.zeros_like(s), torch.ones_like(s)
    for n in range(derivative):
        previous, hermite = hermite, 2 * s * hermite - 2 * n * previous
    return (-1 / width) ** derivative * hermite * value if derivative else value
