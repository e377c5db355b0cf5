"""B-spline basis functions by the Cox-de Boor recurrence (docs/math.md, eq. 2 and 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient with the convention 0/0 = 0 for knots that coincide."""
    positive = denominator > 0
    return torch.where(positive, numerator / torch.where(positive, denominator, 1), 0 * numerator)


def bspline_basis(x: Tensor, knots: Tensor, spline_order: int, derivative: int = 0) -> Tensor:
    """Values of the `derivative`-th derivative of all basis functions.

    Args:
        x: `[..., in_features]`, any float dtype.
        knots: `[in_features, num_knots]`, non-decreasing; the extended knots of each input.
        spline_order: polynomial degree k of the pieces, >= 0.
        derivative: d >= 0; zero everywhere once d > k.

    Returns:
        `[..., in_features, num_knots - 1 - spline_order]`, in the dtype of `x`. Cells are
        half-open, and outside the extended knots every function is zero. NaN or infinite `x` gives
        NaN.

    Source: de Boor, A Practical Guide to Splines, ch. IX and X.
    """
    knots = knots.to(x.dtype)
    x = x.unsqueeze(-1)
    # x - x is zero, or NaN where x is not finite
    basis = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype) + (x - x)
    smooth = max(spline_order - derivative, 0)
    for m in range(1, smooth + 1):
        t_left, t_right = knots[:, : -(m + 1)], knots[:, m + 1 :]
        rise = _divide(x - t_left, knots[:, m:-1] - t_left)
        fall = _divide(t_right - x, t_right - knots[:, 1:-m])
        basis = rise * basis[..., :-1] + fall * basis[..., 1:]
    # B'_{j,m} = m B_{j,m-1} / (t_{j+m} - t_j) - m B_{j+1,m-1} / (t_{j+m+1} - t_{j+1})
    for m in range(smooth + 1, spline_order + 1):
        one = torch.ones_like(knots[:, :1])
        left = _divide(one, knots[:, m:-1] - knots[:, : -(m + 1)])
        right = _divide(one, knots[:, m + 1 :] - knots[:, 1:-m])
        basis = m * (left * basis[..., :-1] - right * basis[..., 1:])
    return basis * 0 if derivative > spline_order else basis
