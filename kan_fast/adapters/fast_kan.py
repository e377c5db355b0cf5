"""fast-kan's FastKANLayer, under whatever name and in whatever file it was copied.

Interface and semantics: fast-kan 17b6540.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.adapters.calls import only_tensor
from kan_fast.adapters.self_check import differs
from kan_fast.adapters.source import side_effects
from kan_fast.functional import has_kernel
from kan_fast.gaussian import GaussianKANLinear, gaussian_layer

kind = "fast-kan"

_PLAIN_ATTRIBUTES = frozenset(
    "layernorm rbf spline_linear use_base_update base_linear base_activation use_layernorm".split()
)


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be fast-kan layers; they tell when they are called."""
    return cls.__name__ == "FastKANLayer" or hasattr(cls, "plot_curve")


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the attributes of a fast-kan layer."""
    return (
        not isinstance(module, GaussianKANLinear)
        and hasattr(getattr(module, "rbf", None), "denominator")
        and hasattr(module, "spline_linear")
    )


def describe(module: Any) -> str:
    """Its size, for reports."""
    out_features, columns = module.spline_linear.weight.shape
    return f"{columns // module.rbf.grid.numel()} -> {out_features}"


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """Its weight, which the planner wants to know; the functions have no degree."""
    return module.spline_linear.weight, 0


def _shape_mismatch(module: Any) -> str | None:
    grid, weight = module.rbf.grid, getattr(module.spline_linear, "weight", None)
    if not isinstance(grid, Tensor) or grid.dim() != 1 or grid.numel() == 0:
        return "its rbf.grid should be a tensor of one dimension"
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[1] % grid.numel():
        return "its spline_linear.weight should be [out_features, in_features * num_grids]"
    if grid.requires_grad:
        return "its rbf.grid is trained"
    if getattr(module.spline_linear, "bias", None) is not None:
        return "its spline_linear has a bias"
    if not isinstance(module.rbf.denominator, (int, float)):
        return "its rbf.denominator should be a number"
    return None


def _inputs(module: Any) -> Tensor:
    in_features = module.spline_linear.weight.shape[1] // module.rbf.grid.numel()
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn((32, in_features), generator=generator, dtype=torch.float64)


def _expected(module: Any, x: Tensor) -> Tensor:
    norm = getattr(module, "layernorm", None)
    phi = reference.gaussian_rbf_basis(
        x if norm is None else norm(x), module.rbf.grid, module.rbf.denominator
    )
    y = F.linear(phi.flatten(-2), module.spline_linear.weight)
    base = getattr(module, "base_linear", None)
    return y if base is None else y + base(module.base_activation(x))


def why_not(module: Any) -> str | None:
    """The reason why a candidate is left alone, as a sentence; None when it can be accelerated."""
    return (
        _shape_mismatch(module)
        or side_effects(type(module).forward, _PLAIN_ATTRIBUTES)
        or differs(module, _inputs, _expected, kind)
    )


def takes(module: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is one that `run` knows, on an input that a kernel runs."""
    x = only_tensor(args, kwargs)
    # a compiler fuses the layer's own operators
    if x is None or torch.compiler.is_compiling():
        return False
    return has_kernel(x, *weight_and_order(module))


def run(module: Any, x: Tensor, original: Callable[[], Tensor] | None = None) -> Tensor:
    """The layer through our kernels."""
    return gaussian_layer(module, x)
