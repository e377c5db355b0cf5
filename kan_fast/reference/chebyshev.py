"""Chebyshev polynomials of the first kind (docs/math.md, eq. 12)."""

from __future__ import annotations

import torch
from torch import Tensor


def chebyshev_basis(t: Tensor, num_basis: int, derivative: int = 0) -> Tensor:
    """The `derivative`-th derivative of T_0 .. T_{num_basis - 1} at `t`.

    Args:
        t: any shape, any float dtype; the polynomials go on outside [-1, 1].
        num_basis: degree + 1.

    Returns:
        `[*t.shape, num_basis]` in the dtype of `t`.
    """
    one, none = torch.ones_like(t) + (t - t), t - t
    lower = None
    for order in range(derivative + 1):
        # T_0 and T_1 differentiated `order` times
        first = one if order == 0 else none
        second = t if order == 0 else (one if order == 1 else none)
        found = [first, second]
        for n in range(1, num_basis - 1):
            following = 2 * t * found[n] - found[n - 1]
            if order > 0:
                following = following + 2 * order * lower[n]
            found.append(following)
        lower = found
    return torch.stack(lower[:num_basis], dim=-1) if num_basis else t.new_empty(*t.shape, 0)
