"""Grids: construction, extension, and the refit that a grid update needs."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.errors import GridError
from kan_fast.ops.gram import gram
from kan_fast.reference import bspline_basis
from kan_fast.spec import WindowedBasis


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


def check_data(x: Tensor, num_basis: int, robust: bool) -> None:
    """Raises GridError for `[rows, in_features]` that an update cannot use."""
    finite = torch.isfinite(x)
    if robust:
        if not bool(finite.any(0).all()):
            raise GridError(
                "update_grid: x must have a finite number in every column, got none in column "
                f"{int((~finite.any(0)).nonzero()[0])}. The grid is unchanged"
            )
        return
    if x.shape[0] < num_basis:
        raise GridError(
            f"update_grid: x must have at least grid_size + spline_order = {num_basis} rows to "
            f"determine the splines, got {x.shape[0]}; give more data or robust=True. The grid is "
            "unchanged"
        )
    if not bool(finite.all()):
        raise GridError(
            "update_grid: x must be finite, got NaN or infinity; remove those rows or pass "
            "robust=True. The grid is unchanged"
        )


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
    x, old_knots, new_knots = x.double(), old_knots.double(), new_knots.double()
    splines = WindowedBasis(spline_order, "zero")
    normal = gram(x, new_knots, splines)[:, :-1, :-1]
    cross = gram(x, new_knots, splines, old_knots)[:, :-1, :-1]
    return least_norm_fit(normal, cross, spline_weight)


def least_norm_fit(normal: Tensor, cross: Tensor, spline_weight: Tensor) -> Tensor:
    """The least-norm solution of normal c = cross w for every edge, in the dtype of w.

    Args:
        normal: `[in_features, num_basis, num_basis]`, float64: sum over samples of b b'.
        cross: `[in_features, num_basis, old num_basis]`, float64: the same of b and the old b.
        spline_weight: w, `[out_features, in_features, old num_basis]`.
    """
    # eigenvalues below the noise of float64 count as zero
    solution = torch.linalg.pinv(normal, rtol=1e-12, hermitian=True) @ cross
    fitted = torch.einsum("igh,oih->oig", solution, spline_weight.double())
    return fitted.to(spline_weight.dtype)


def robust_refit(
    x: Tensor, old_knots: Tensor, new_knots: Tensor, spline_weight: Tensor, spline_order: int
) -> Tensor:
    """`refit` that keeps the old splines where there are no samples, instead of sending them to 0.

    The samples' least squares plus, with a weight of 1e-6, those of points spread evenly over the
    new grid.
    """
    x, old_knots, new_knots = x.double(), old_knots.double(), new_knots.double()
    splines = WindowedBasis(spline_order, "zero")
    normal = cross = 0
    for points, share in ((x, 1.0), (_spread(new_knots, spline_order), 1e-6)):
        share = share / max(1, points.shape[0])
        normal = normal + share * gram(points, new_knots, splines)[:, :-1, :-1]
        cross = cross + share * gram(points, new_knots, splines, old_knots)[:, :-1, :-1]
    return least_norm_fit(normal, cross, spline_weight)


def _spread(knots: Tensor, spline_order: int) -> Tensor:
    """2 k + 2 points in every cell of the grid range, `[points, in_features]`."""
    inner = knots[:, spline_order : knots.shape[1] - spline_order]
    count = 2 * spline_order + 2
    at = (torch.arange(count, dtype=knots.dtype, device=knots.device) + 0.5) / count
    points = inner[:, :-1, None] + inner.diff(dim=1).unsqueeze(-1) * at
    return points.flatten(1).T.contiguous()


def refined_knots(knots: Tensor, grid_size: int, spline_order: int) -> Tensor:
    """Knots of a grid with `grid_size` intervals over the same range as `knots`.

    Where `grid_size` is a multiple of the old number of intervals, every interval is divided
    evenly, so old knots stay and the old splines are among the new. Otherwise knots follow the old
    spacing: places between old knots by linear interpolation.

    Args:
        knots: `[in_features, old grid_size + 2 * spline_order + 1]`.

    Returns:
        `[in_features, grid_size + 2 * spline_order + 1]` in float64; outside the range the first
        and last interval are repeated.
    """
    wide = knots.double()
    new = refined_inner_knots(wide[:, spline_order : wide.shape[1] - spline_order], grid_size)
    outer = torch.arange(1, spline_order + 1, device=knots.device)
    left = new[:, :1] - (new[:, 1:2] - new[:, :1]) * outer.flip(0)
    right = new[:, -1:] + (new[:, -1:] - new[:, -2:-1]) * outer
    return torch.cat([left, new, right], dim=1)


def refined_inner_knots(inner: Tensor, grid_size: int) -> Tensor:
    """`grid_size + 1` knots for each row of `[in_features, old grid_size + 1]`, in float64: at
    evenly spaced places between the old ones, which are interpolated linearly."""
    inner = inner.double()
    old_size = inner.shape[1] - 1
    place = torch.arange(grid_size + 1, dtype=torch.float64, device=inner.device)
    place = place * old_size / grid_size
    low = place.floor().clamp(max=old_size - 1).long()
    part = place - low
    return inner[:, low] * (1 - part) + inner[:, low + 1] * part


def project(
    old_knots: Tensor, new_knots: Tensor, spline_weight: Tensor, spline_order: int
) -> Tensor:
    """Coefficients on `new_knots` of the splines nearest to the old ones over the grid range.

    Least squares in float64 on points spread over the cells of both grids; exact where the old
    splines are among the new.
    """
    old_knots, new_knots = old_knots.double(), new_knots.double()
    points = torch.cat([_spread(k, spline_order) for k in (old_knots, new_knots)])
    points = points.clamp(
        new_knots[:, spline_order], new_knots[:, -1 - spline_order].nextafter(new_knots[:, 0])
    )
    new = bspline_basis(points, new_knots, spline_order).transpose(0, 1)
    old = bspline_basis(points, old_knots, spline_order).transpose(0, 1)
    # on the basis itself, not its Gram matrix: half the digits would be lost
    same = bool((old_knots == old_knots[:1]).all() and (new_knots == new_knots[:1]).all())
    if same:
        new, old = new[:1], old[:1]
    solution = torch.linalg.pinv(new, rtol=1e-12) @ old
    solution = solution.expand(old_knots.shape[0], -1, -1)
    fitted = torch.einsum("igh,oih->oig", solution, spline_weight.double())
    return fitted.to(spline_weight.dtype)


def robust_knots(
    x: Tensor, grid_size: int, spline_order: int, grid_eps: float, margin: float
) -> Tensor:
    """`quantile_knots` for any data: rows that are not finite are left out, and intervals are at
    least a tenth of the uniform ones, so that ties and constant columns do not collapse them.

    Args:
        x: `[rows, in_features]` with at least one finite number in each column.
    """
    columns = []
    for column in x.T:
        kept = column[torch.isfinite(column)].unsqueeze(1)
        spread = kept.max() - kept.min()
        room = max(margin, 1e-3 * float(kept.abs().max().clamp_min(1))) if spread == 0 else margin
        adaptive = quantile_knots(kept, grid_size, spline_order, grid_eps, room)[0]
        inner = adaptive[spline_order : adaptive.shape[0] - spline_order].clone()
        low, high = kept.min() - room, kept.max() + room
        inner[0], inner[-1] = torch.minimum(inner[0], low), torch.maximum(inner[-1], high)
        uniform = torch.linspace(0, 1, grid_size + 1, dtype=x.dtype, device=x.device)
        uniform = inner[0] + (inner[-1] - inner[0]) * uniform
        inner = 0.9 * inner + 0.1 * uniform
        step = (inner[-1] - inner[0]) / grid_size
        outer = torch.arange(1, spline_order + 1, device=x.device) * step
        columns.append(torch.cat([inner[0] - outer.flip(0), inner, inner[-1] + outer]))
    return torch.stack(columns) if columns else x.new_empty(0, grid_size + 2 * spline_order + 1)
