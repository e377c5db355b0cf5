"""pykan's KANLayer by itself: `y, preacts, postacts, postspline = layer(x)`.

`y` is one kernel call; the others, of size `[rows, out_dim, in_dim]`, are computed when used.

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.interop.adapters.base import forward_keeps, has, is_trained
from kan_fast.interop.adapters.pykan import grid as pykan_grid
from kan_fast.interop.adapters.pykan.activations import knots_of
from kan_fast.interop.adapters.pykan.curves import postspline_and_postacts
from kan_fast.layers.activations import known_activation, works_in_place
from kan_fast.ops.spline import kan_linear
from kan_fast.torch_internals import in_forward_mode, in_transform

_METHODS = ("forward", "update_grid_from_samples", "initialize_grid_from_parent", "get_subset")
_ATTRIBUTES = ("grid", "coef", "mask", "scale_base", "scale_sp", "base_fun", "k")


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be pykan layers."""
    return all(callable(getattr(cls, name, None)) for name in _METHODS)


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the methods and attributes of a pykan layer."""
    return is_candidate_class(type(module)) and all(has(module, n) for n in _ATTRIBUTES)


def describe(module: Any) -> str:
    """Its size, for reports."""
    # older layers keep one row of coefficients for each edge
    return f"{module.in_dim} -> {module.out_dim}"


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """Its weight and degree, which the planner wants to know."""
    return module.coef, module.k


def methods(cls: type[nn.Module]) -> dict[str, Callable | None]:
    """What takes the place of the class's own methods on accelerated layers."""
    if not pykan_grid.sets_known_grids(cls):
        return {}
    return {
        "update_grid_from_samples": pykan_grid.update_layer,
        "initialize_grid_from_parent": pykan_grid.from_parent,
    }


def own_code_reason(module: Any) -> str | None:
    """Why a call runs pykan's own forward, whatever its input; None where kernels do the same."""
    if is_trained(module.grid):
        return "a grid that requires a gradient"
    if works_in_place(module.base_fun) or not isinstance(known_activation(module.base_fun), str):
        return "a base function that no kernel has"
    if in_transform() or in_forward_mode():
        return "a transform around it"
    return None if pykan_grid.regular(module.grid) else "coinciding knots"


def is_finite(x: Tensor, layer: Any) -> bool:
    """Whether all numbers of an input and a layer are finite: pykan gives each function a part of
    a number that is not, or none at all, and kernels those that are not zero."""
    tensors = (x, layer.coef, layer.scale_base, layer.scale_sp, layer.mask)
    # sums that overflow are no harm: pykan's code runs then
    return bool(torch.isfinite(sum(t.detach().sum() for t in tensors)))


def run(module: Any, x: Tensor) -> tuple:
    """`y` and what else pykan's forward returns."""
    activation = known_activation(module.base_fun)
    y = sum_of_edges(module, x, activation)
    preacts = x.unsqueeze(1).clone().expand(-1, module.coef.shape[1], -1)
    parameters = (module.coef, module.scale_sp, module.scale_base, module.mask)
    postspline, postacts = postspline_and_postacts(
        x, activation, knots_of(module), module.k, parameters
    )
    return y, preacts, postacts, postspline


def sum_of_edges(layer: Any, x: Tensor, activation: str) -> Tensor:
    """sum_i mask (scale_base base(x_i) + scale_sp spline(x_i))."""
    x, knots = forward_keeps(x, knots_of(layer))
    return kan_linear(x, knots, *weights(layer), spline_order=layer.k, base_activation=activation)


def weights(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """spline_weight, spline_scaler and base_weight of `kan_linear`; pykan keeps inputs first."""
    mask = layer.mask
    return layer.coef.transpose(0, 1), (layer.scale_sp * mask).t(), (layer.scale_base * mask).t()
