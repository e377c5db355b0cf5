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

from kan_fast import layers, reference
from kan_fast.activations import known_activation
from kan_fast.adapters.calls import only_tensor
from kan_fast.adapters.self_check import differs
from kan_fast.adapters.source import fingerprint, side_effects
from kan_fast.functional import has_kernel, kan_linear
from kan_fast.spec import MAX_SPLINE_ORDER, BasisSpec

kind = "efficient-kan"

#: fingerprints of forward, b_splines and scaled_spline_weight of public copies, whose results
#: tests/test_real_efficient_kan.py compares with ours
KNOWN_SOURCES: dict[str, str] = {
    "effe15472f70a637": "2-D forward, as in kan-gpt 1.2.0 and imodelsx 1.0.14",
}

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


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the attributes of an efficient-kan layer."""
    return not isinstance(module, layers.KANLinear) and all(
        hasattr(module, name) for name in _ATTRIBUTES
    )


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be efficient-kan layers; they tell when they are called."""
    return callable(getattr(cls, "b_splines", None)) and not issubclass(cls, layers.KANLinear)


def _scaler(module: Any) -> Tensor | None:
    if getattr(module, "enable_standalone_scale_spline", True):
        return getattr(module, "spline_scaler", None)
    return None


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
    if _scaler(module) is not None:
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
    beyond = torch.tensor([-3.0, -0.6, 1.6, 4.0], dtype=torch.float64).unsqueeze(1)
    return torch.cat([low + (high - low) * inside, grid.T, low + (high - low) * beyond])


def _expected(module: Any, x: Tensor) -> Tensor:
    splines = reference.kan_linear(
        x, module.grid, module.spline_weight, _scaler(module), None,
        BasisSpec(int(module.spline_order), "zero"),
    )  # fmt: skip
    return splines + nn.functional.linear(module.base_activation(x), module.base_weight)


def why_not(module: nn.Module) -> str | None:
    """The reason why a candidate is left alone, as a sentence; None when it can be accelerated."""
    reason = _shape_mismatch(module)
    if reason is not None:
        return reason
    cls = type(module)
    methods = (cls.forward, cls.b_splines, getattr(cls, "scaled_spline_weight", None))
    if fingerprint(*[m for m in methods if m is not None]) in KNOWN_SOURCES:
        return None
    return side_effects(cls.forward) or differs(
        module, lambda twin: _check_inputs(twin.grid), _expected, kind
    )


def describe(module: Any) -> str:
    """Its size, for reports."""
    return f"{module.in_features} -> {module.out_features}"


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """A weight and the degree, which the planner wants to know."""
    return module.spline_weight, module.spline_order


def takes(module: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is one that `run` knows, on an input that a kernel runs."""
    x = only_tensor(args, kwargs)
    return x is not None and has_kernel(x, *weight_and_order(module))


def run(module: Any, x: Tensor, original: Callable[[], Tensor] | None = None) -> Tensor:
    """The layer through our kernels."""
    return kan_linear(
        x,
        module.grid,
        module.spline_weight,
        _scaler(module),
        module.base_weight,
        spline_order=module.spline_order,
        base_activation=known_activation(module.base_activation),
    )
