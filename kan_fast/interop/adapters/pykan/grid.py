"""pykan's grid updates and refinement, through normal equations in float64.

pykan expands its design matrix to `[in_dim, out_dim, rows, num_basis]` and solves it in the dtype
of the layer, on a GPU without regard to rank. Here nothing grows with rows times edges, and what
the samples do not determine takes the least-norm solution, so results are finite everywhere.

Source: pykan 0.2.8, `KANLayer.update_grid_from_samples`, `KANLayer.initialize_grid_from_parent` and
`MultKAN.initialize_from_another_model`; the same grids, and the same coefficients to rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kan_fast.interop.adapters.source import fingerprint
from kan_fast.layers.grid import least_norm_fit, refined_inner_knots, refit
from kan_fast.layers.shared_grids import agree, of_all_processes

#: fingerprints of what sets grids of a layer
KNOWN_GRIDS: dict[str, str] = {"e3cbbfceb85b4702": "pykan 0.2.8"}

_METHODS = ("update_grid_from_samples", "initialize_grid_from_parent")


def sets_known_grids(cls: type | None) -> bool:
    """Whether a layer class sets grids as pykan does."""
    if cls is None:
        return False
    names = vars(sys.modules[cls.__module__])
    functions = (getattr(cls, n, None) for n in _METHODS)
    spline = (names.get(n) for n in ("coef2curve", "curve2coef", "extend_grid", "B_batch"))
    return fingerprint(*functions, *spline) in KNOWN_GRIDS


def _is_known(layer: Any) -> bool:
    """The same of one layer, which may have a method of its own."""
    return not any(n in layer.__dict__ for n in _METHODS) and sets_known_grids(type(layer))


def regular(knots: Tensor) -> bool:
    """Whether no knots coincide: pykan's functions are not the usual ones where they do."""
    return bool((knots[:, 1:] > knots[:, :-1]).all())


def basis(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """pykan's functions, `[rows, in_dim, num_basis]`: one with coinciding knots among its own is
    zero wherever a quotient of the recurrence is not a number."""
    x = x.unsqueeze(-1)
    found = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
    for m in range(1, order + 1):
        rise = (x - knots[:, : -(m + 1)]) / (knots[:, m:-1] - knots[:, : -(m + 1)])
        fall = (knots[:, m + 1 :] - x) / (knots[:, m + 1 :] - knots[:, 1:-m])
        found = torch.nan_to_num(rise * found[..., :-1] + fall * found[..., 1:])
    return found


def extended(inner: Tensor, order: int) -> Tensor:
    """`[in_dim, grid_size + 1]` with `order` more knots on each side, at the mean spacing."""
    step = (inner[:, -1:] - inner[:, :1]) / (inner.shape[1] - 1)
    left, right = [], []
    for _ in range(order):
        # one after the other, as pykan adds and rounds them
        left.insert(0, (left[0] if left else inner[:, :1]) - step)
        right.append((right[-1] if right else inner[:, -1:]) + step)
    return torch.cat([*left, inner, *right], dim=1)


def quantiles(ordered: Tensor, grid_size: int, grid_eps: float) -> Tensor:
    """Inner knots of sorted `[rows, in_dim]`: a mix of quantiles and a uniform grid."""
    rows = ordered.shape[0]
    at = [int(rows / grid_size * n) for n in range(grid_size)] + [-1]
    adaptive = ordered[at].t()
    step = (adaptive[:, -1:] - adaptive[:, :1]) / grid_size
    uniform = adaptive[:, :1] + step * torch.arange(grid_size + 1, device=ordered.device)
    return grid_eps * uniform + (1 - grid_eps) * adaptive


@torch.no_grad()
def fit(layer: Any, x: Tensor, inner: Tensor, parent: Any) -> None:
    """Sets grid and coefficients of `layer`: the splines of `parent` at `x`, on `inner` knots."""
    new, old = extended(inner, layer.k), parent.grid.data
    coef = parent.coef.data.transpose(0, 1)
    if parent.k == layer.k and regular(new) and regular(old):
        found = refit(x, old, new, coef, layer.k)
    else:
        found = _fit_with_pykan_basis(x, old, parent.k, new, layer.k, coef)
    layer.grid.data = new
    layer.coef.data = found.transpose(0, 1).contiguous()


def _fit_with_pykan_basis(
    x: Tensor, old: Tensor, old_order: int, new: Tensor, order: int, coef: Tensor
) -> Tensor:
    """The same where functions are not the usual ones, a slice of rows at a time."""
    normal = cross = 0
    wide_old, wide_new = old.double(), new.double()
    for rows in x.double().split(max(1, 2**22 // max(1, old.numel() + new.numel()))):
        a = basis(rows, wide_new, order)
        normal = normal + torch.einsum("rig,rih->igh", a, a)
        cross = cross + torch.einsum("rig,rih->igh", a, basis(rows, wide_old, old_order))
    return least_norm_fit(normal, cross, coef)


def update_layer(layer: Any, original: Callable, /, x: Tensor, mode: str = "sample") -> None:
    """`KANLayer.update_grid_from_samples`."""
    x = of_all_processes(x)
    if not _usable(x, layer):
        return original(x, mode)
    size = layer.grid.shape[1] - 1 - 2 * layer.k
    ordered = torch.sort(x, dim=0).values
    points = x if mode == "sample" else quantiles(ordered, 2 * size, layer.grid_eps).t()
    fit(layer, points, quantiles(ordered, size, layer.grid_eps), layer)
    return agree(layer.grid, layer.coef)


def from_parent(
    layer: Any, original: Callable, /, parent: Any, x: Tensor, mode: str = "sample"
) -> None:
    """`KANLayer.initialize_grid_from_parent`."""
    x = of_all_processes(x)
    if not _usable(x, parent):
        return original(parent, x, mode)
    size = layer.grid.shape[1] - 1 - 2 * layer.k
    old = parent.grid.data[:, parent.k : parent.grid.shape[1] - parent.k]
    points = x
    if mode == "grid":
        # as many points as knots, whatever the name of the mode promises
        points = refined_inner_knots(old, size).to(old.dtype).t()
    fit(layer, points, refined_inner_knots(old, size).to(old.dtype), parent)
    return agree(layer.grid, layer.coef)


def _usable(x: Tensor, layer: Any) -> bool:
    """Whether samples are there and finite, of a dtype that torch solves least squares in, and
    `layer` has knots of every input; what pykan makes of others is its own business."""
    there = x.dim() == 2 and x.shape[0] > 0 and layer.grid.shape[0] == x.shape[1]
    there = there and x.dtype in (torch.float32, torch.float64)
    return there and bool(torch.isfinite(x).all())


def update_model(model: Any, original: Callable, /, x: Tensor) -> None:
    """`MultKAN.update_grid_from_samples`: every layer on what the updated ones before it give."""
    for n, layer in enumerate(model.act_fun):
        model.get_act(x)
        own = layer.update_grid_from_samples
        if _is_known(layer):
            update_layer(layer, own, model.acts[n])
        else:
            own(model.acts[n])


def model_grid_from_another(finer: Any, original: Callable, /, model: Any, x: Tensor) -> None:
    """`MultKAN.initialize_grid_from_another_model`."""
    model(x)
    for layer, parent, acts in zip(finer.act_fun, model.act_fun, model.acts, strict=False):
        own = layer.initialize_grid_from_parent
        if _is_known(layer):
            from_parent(layer, own, parent, acts)
        else:
            own(parent, acts)


def model_from_another(model: Any, original: Callable, /, another_model: Any, x: Tensor) -> Any:
    """`MultKAN.initialize_from_another_model`, which `refine` calls on the finer model."""
    model.initialize_grid_from_another_model(another_model, x)
    for n, (layer, parent) in enumerate(zip(model.act_fun, another_model.act_fun, strict=True)):
        for name in ("scale_base", "scale_sp", "mask"):
            getattr(layer, name).data = getattr(parent, name).data
        for name in ("node_bias", "node_scale", "subnode_bias", "subnode_scale"):
            getattr(model, name)[n].data = getattr(another_model, name)[n].data
        model.symbolic_fun[n] = another_model.symbolic_fun[n]
    return model.to(model.device)
