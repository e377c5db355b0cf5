"""Grids: construction, extension, and the refit that a grid update needs."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.errors import GridError
from kan_fast.reference import bspline_basis


def uniform_knots(
    in_features: int,
    grid_size: int,
    spline_order: int,
    grid_range: tuple[float, float],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Extended uniform knots, equal for all inputs, `[in_features, grid_size + 2k + 1]`.

    Args:
        grid_size: number of intervals in `grid_range`, >= 1.
        spline_order: polynomial degree k, >= 0; k intervals are added on each side.
        grid_range: `(low, high)`, finite, low < high.

    Raises:
        GridError: an argument out of its range.

    Source: the formula and its rounding are those of efficient-kan 7b6ce1c, so that checkpoints
        and fresh layers carry the same knots.
    """
    low, high = grid_range
    if grid_size < 1 or spline_order < 0:
        raise GridError(
            "kan_fast: grid_size must be at least 1 and spline_order at least 0, got "
            f"grid_size={grid_size}, spline_order={spline_order}"
        )
    h = (high - low) / grid_size
    if not (h > 0 and h < float("inf")):
        raise GridError(
            f"kan_fast: grid_range must be (low, high), finite, with low < high; got {grid_range}"
        )
    steps = torch.arange(-spline_order, grid_size + spline_order + 1, device=device)
    row = steps * h + low
    return row.to(dtype or torch.get_default_dtype()).expand(in_features, -1).contiguous()


def quantile_knots(
    x: Tensor, grid_size: int, spline_order: int, grid_eps: float, margin: float
) -> Tensor:
    """Knots that follow the data: a mix of quantiles and a uniform grid over its range.

    Args:
        x: `[rows, in_features]`, float32 or float64, finite, at least 1 row.
        grid_eps: 1 for the uniform grid, 0 for the quantiles.
        margin: added on each side of the range of the uniform grid, in units of x.

    Returns:
        `[in_features, grid_size + 2 * spline_order + 1]`.

    Source: efficient-kan 7b6ce1c, `update_grid`; same formula.
    """
    rows = x.shape[0]
    ordered = torch.sort(x, dim=0).values
    at = torch.linspace(0, rows - 1, grid_size + 1, dtype=torch.int64, device=x.device)
    adaptive = ordered[at]
    step = (ordered[-1] - ordered[0] + 2 * margin) / grid_size
    count = torch.arange(grid_size + 1, dtype=x.dtype, device=x.device).unsqueeze(1)
    uniform = count * step + ordered[0] - margin
    inner = grid_eps * uniform + (1 - grid_eps) * adaptive
    outer = torch.arange(1, spline_order + 1, device=x.device).unsqueeze(1)
    left = inner[:1] - step * outer.flip(0)
    right = inner[-1:] + step * outer
    return torch.cat([left, inner, right]).T.contiguous()


def check_knots(knots: Tensor, spline_order: int) -> None:
    """Raises GridError unless knots are finite, non-decreasing and of positive width."""
    bad = ~torch.isfinite(knots).all(1) | (knots.diff(dim=1) < 0).any(1)
    bad |= ~(knots[:, spline_order] < knots[:, -1 - spline_order])
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise GridError(
            f"kan_fast: the new knots of input {first} must be finite, non-decreasing and of "
            f"positive width, got {knots[first].tolist()}; give data that is finite and not "
            "constant, or a larger grid_eps or margin. The old grid is unchanged"
        )


def refit(
    x: Tensor, old_knots: Tensor, new_knots: Tensor, spline_weight: Tensor, spline_order: int
) -> Tensor:
    """Coefficients on `new_knots` of the splines that are nearest to the old ones at the samples.

    Least squares per input through the normal equations in float64. What the samples do not
    determine is set to the least-norm solution, so the result is always finite.

    Args:
        x: `[rows, in_features]`.
        old_knots, new_knots: `[in_features, num_knots]`.
        spline_weight: `[out_features, in_features, num_basis]`.

    Returns:
        `[out_features, in_features, num_basis]` in the dtype of `spline_weight`.
    """
    old_knots, new_knots = old_knots.double(), new_knots.double()
    in_features, num_knots = new_knots.shape
    num_basis = num_knots - 1 - spline_order
    gram = x.new_zeros((in_features, num_basis, num_basis), dtype=torch.float64)
    cross = torch.zeros_like(gram)
    # a slice of rows at a time: nothing of size rows x in_features x num_basis
    rows_at_once = max(1, 2**22 // (in_features * num_knots))
    for rows in x.double().split(rows_at_once):
        new = bspline_basis(rows, new_knots, spline_order)
        old = bspline_basis(rows, old_knots, spline_order)
        gram += torch.einsum("rig,rih->igh", new, new)
        cross += torch.einsum("rig,rih->igh", new, old)
    # gram^+ cross w; eigenvalues below the noise of float64 count as zero
    solution = torch.linalg.pinv(gram, rtol=1e-12, hermitian=True) @ cross
    fitted = torch.einsum("igh,oih->oig", solution, spline_weight.double())
    return fitted.to(spline_weight.dtype)
