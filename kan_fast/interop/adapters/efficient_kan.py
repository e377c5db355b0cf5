"""efficient-kan's KANLinear, under whatever name and in whatever file it was copied.

Interface and semantics: efficient-kan 7b6ce1c. Its `update_grid` fits the scaled splines and leaves
the scaler in place, so with `enable_standalone_scale_spline` a grid update changes the function;
an accelerated layer keeps that method untouched and so reproduces it exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.interop.adapters.base import (
    Adapter,
    are_plain,
    forward_keeps,
    has,
    is_trained,
    tensors_of,
)
from kan_fast.interop.adapters.self_check import differs
from kan_fast.interop.adapters.source import fingerprint, side_effects
from kan_fast.layers.activations import known_activation, works_in_place
from kan_fast.layers.edges import Edges, Splines, scaler_of, splines_of
from kan_fast.layers.spline import KANLinear
from kan_fast.ops.plan import has_kernel
from kan_fast.ops.spline import kan_linear
from kan_fast.spec import MAX_SPLINE_ORDER, WindowedBasis

#: fingerprints of forward, b_splines and scaled_spline_weight of public copies, whose results
#: tests/test_real_efficient_kan.py compares with ours
KNOWN_SOURCES: dict[str, str] = {
    "d60c7a8aa422139f": "2-D forward, as in kan-gpt 1.2.0 and imodelsx 1.0.14",
}

#: what the methods of a plain layer read of self
_PLAIN_ATTRIBUTES = frozenset(
    "base_activation base_weight spline_weight spline_scaler scaled_spline_weight b_splines grid "
    "enable_standalone_scale_spline grid_size spline_order in_features out_features".split()
)
_TENSORS = ("grid", "spline_weight", "base_weight", "spline_scaler")
_ATTRIBUTES = (
    "in_features",
    "out_features",
    "grid_size",
    "spline_order",
    "base_weight",
    "spline_weight",
    "grid",
    "base_activation",
    "b_splines",
)


def _shape_mismatch(module: Any) -> str | None:
    try:
        edges = (int(module.out_features), int(module.in_features))
        num_basis = int(module.grid_size) + int(module.spline_order)
    except (TypeError, ValueError):
        return "its sizes are not integers"
    wanted = {
        "base_weight": edges,
        "spline_weight": (*edges, num_basis),
        "grid": (edges[1], num_basis + int(module.spline_order) + 1),
    }
    if isinstance(module.grid, Tensor) and module.grid.dim() == 2 and len(module.grid) == 1:
        wanted["grid"] = (1, wanted["grid"][1])
    if scaler_of(module) is not None:
        wanted["spline_scaler"] = edges
    for name, shape in wanted.items():
        tensor = getattr(module, name)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            return f"its {name} should be a tensor of shape {shape}, got {got}"
    if not 0 <= module.spline_order <= MAX_SPLINE_ORDER:
        return f"its spline_order should be 0..{MAX_SPLINE_ORDER}, got {module.spline_order}"
    if not callable(module.base_activation):
        return "its base_activation is not callable"
    return None


def _check_inputs(grid: Tensor) -> Tensor:
    """Rows inside, on and outside the grid, `[rows, in_features]` in float64."""
    low, high = grid[:, :1].T, grid[:, -1:].T
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand((24, grid.shape[0]), generator=generator, dtype=torch.float64)
    beyond = torch.tensor([-25.0, -3.0, -0.6, 1.6, 4.0, 25.0], dtype=torch.float64).unsqueeze(1)
    return torch.cat([low + (high - low) * inside, grid.T, low + (high - low) * beyond])


def _expected(module: Any, x: Tensor) -> Tensor:
    splines = reference.kan_linear(
        x, module.grid, module.spline_weight, scaler_of(module), None,
        WindowedBasis(int(module.spline_order), "zero"),
    )  # fmt: skip
    return splines + nn.functional.linear(module.base_activation(x), module.base_weight)


class EfficientKan(Adapter):
    """efficient-kan's KANLinear."""

    kind = "efficient-kan"
    methods = ("b_splines", "scaled_spline_weight")
    tensors = _TENSORS
    settings = (
        "in_features", "out_features", "grid_size", "spline_order",
        "enable_standalone_scale_spline",
    )  # fmt: skip

    def is_candidate(self, module: nn.Module) -> bool:
        return not isinstance(module, KANLinear) and all(has(module, n) for n in _ATTRIBUTES)

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return callable(getattr(cls, "b_splines", None)) and not issubclass(cls, KANLinear)

    def why_not(self, module: nn.Module) -> str | None:
        reason = _shape_mismatch(module)
        if reason is not None:
            return reason
        cls = type(module)
        names = ("forward", *[n for n in self.methods if hasattr(cls, n)])
        if fingerprint(*[getattr(cls, n) for n in names]) in KNOWN_SOURCES:
            return None
        return side_effects(cls, names, _PLAIN_ATTRIBUTES) or differs(
            module, lambda twin: _check_inputs(twin.grid), _expected, self.kind, ("grid",)
        )

    def describe(self, module: Any) -> str:
        return f"{module.in_features} -> {module.out_features}"

    def form(self, module: Any) -> bool:
        # without looking it up: a parametrised one would be computed
        return module._parameters.get("spline_scaler", "") is None

    def prepare(self, module: Any) -> tuple | str:
        knots, weight, base, scaler = tensors_of(module, _TENSORS)
        standalone = getattr(module, "enable_standalone_scale_spline", None)
        if scaler is not None and standalone is False:
            scaler = None
        elif scaler is None and standalone:
            return "its spline_scaler is gone"
        if not are_plain(knots, weight, base, weight if scaler is None else scaler):
            return "a weight or its grid is a tensor subclass or no tensor"
        if is_trained(knots):
            return "its grid requires a gradient"
        if works_in_place(module.base_activation):
            return "its base_activation works in place"
        order = module.spline_order
        if weight.shape != (module.out_features, module.in_features, module.grid_size + order):
            return "its spline_weight has another shape than its sizes say"
        return weight, order, knots, scaler, base

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Tensor]) -> Tensor:
        weight, order, knots, scaler, base = ready
        if knots.shape[0] == 1:  # one row for all inputs
            knots = knots.expand(module.in_features, -1)
        x, knots = forward_keeps(x, knots)
        activation = known_activation(module.base_activation)
        return kan_linear(
            x, knots, weight, scaler, base, spline_order=order, base_activation=activation
        )

    def traced(self, module: Any, x: Tensor) -> Tensor | None:
        weight, order = module.spline_weight, module.spline_order
        if not x.is_floating_point() or not has_kernel(x, weight, order):
            return None
        activation = known_activation(module.base_activation)
        return kan_linear(
            x, module.grid, weight, scaler_of(module), module.base_weight,
            spline_order=order, base_activation=activation,
        )  # fmt: skip

    def edges(self, module: Any) -> Edges:
        return splines_of(module).edges()

    def splines(self, module: Any) -> Splines:
        return splines_of(module)
