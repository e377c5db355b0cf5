"""fast-kan's FastKANLayer, under whatever name and in whatever file it was copied.

Interface and semantics: fast-kan 17b6540.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.interop.adapters.base import (
    Adapter,
    Uses,
    are_plain,
    forward_keeps,
    is_trained,
    tensors_of,
)
from kan_fast.interop.adapters.self_check import differs
from kan_fast.interop.adapters.source import side_effects
from kan_fast.layers.activations import works_in_place
from kan_fast.layers.edges import Edges, gaussian_edges
from kan_fast.layers.gaussian import GaussianKANLinear, gaussian_layer
from kan_fast.layers.hooks import has_hooks, is_plain

_SETTINGS = ("use_base_update", "use_layernorm")
_PLAIN_ATTRIBUTES = frozenset(
    ("layernorm", "rbf", "spline_linear", "base_linear", "base_activation", *_SETTINGS)
)
_OF_CENTERS = ("denominator",)


def _shape_mismatch(module: Any) -> str | None:
    grid, weight = module.rbf.grid, getattr(module.spline_linear, "weight", None)
    if not isinstance(grid, Tensor) or grid.dim() != 1 or grid.numel() == 0:
        return "its rbf.grid should be a tensor of one dimension"
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[1] % grid.numel():
        return "its spline_linear.weight should be [out_features, in_features * num_grids]"
    if type(module.rbf.denominator) not in (int, float):
        return "its rbf.denominator should be a number"
    return None


def _inputs(module: Any) -> Tensor:
    in_features = module.spline_linear.weight.shape[1] // module.rbf.grid.numel()
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn((32, in_features), generator=generator, dtype=torch.float64)
    x[::4] *= 20
    return x


def _expected(module: Any, x: Tensor) -> Tensor:
    norm = getattr(module, "layernorm", None)
    phi = reference.gaussian_rbf_basis(
        x if norm is None else norm(x), module.rbf.grid, module.rbf.denominator
    )
    y = F.linear(phi.flatten(-2), module.spline_linear.weight)
    base = getattr(module, "base_linear", None)
    return y if base is None else y + base(module.base_activation(x))


class FastKan(Adapter):
    """fast-kan's FastKANLayer."""

    kind = "fast-kan"
    is_full = True
    settings = _SETTINGS
    tensors = ("layernorm", "rbf", "spline_linear", "base_linear")
    arguments = {"use_layernorm": True}

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return cls.__name__ == "FastKANLayer" or hasattr(cls, "plot_curve")

    def is_candidate(self, module: nn.Module) -> bool:
        return (
            not isinstance(module, GaussianKANLinear)
            and hasattr(getattr(module, "rbf", None), "denominator")
            and hasattr(module, "spline_linear")
        )

    def inside(self, module: Any) -> Iterator[Uses]:
        yield ("rbf",), module.rbf, (), _OF_CENTERS

    def why_not(self, module: Any) -> str | None:
        ready = self.prepare(module)
        if isinstance(ready, str):
            return ready
        return (
            _shape_mismatch(module)
            or side_effects(type(module), ("forward",), _PLAIN_ATTRIBUTES)
            or side_effects(type(module.rbf), ("forward",), frozenset(("grid", *_OF_CENTERS)))
            or differs(module, _inputs, _expected, self.kind, ())
        )

    def describe(self, module: Any) -> str:
        out_features, columns = module.spline_linear.weight.shape
        return f"{columns // module.rbf.grid.numel()} -> {out_features}"

    def form(self, module: Any) -> tuple[bool, bool]:
        inside = module._modules
        return inside.get("layernorm") is None, inside.get("base_linear") is None

    def prepare(self, module: Any) -> tuple | str:
        spline, rbf = tensors_of(module, ("spline_linear", "rbf"))
        if not isinstance(rbf, nn.Module) or has_hooks(rbf) or not is_plain(spline, nn.Linear):
            return "its spline_linear or rbf has hooks or is another module"
        weight, bias = tensors_of(spline, ("weight", "bias"))
        (centers,) = tensors_of(rbf, ("grid",))
        if bias is not None:
            return "its spline_linear has a bias"
        if not are_plain(weight, centers):
            return "a weight or its rbf.grid is a tensor subclass or no tensor"
        if is_trained(centers):
            return "its rbf.grid is trained"
        if centers.dim() != 1:
            return "its rbf.grid has more than one dimension"
        base = module._modules.get("base_linear")
        if base is not None and works_in_place(module.base_activation):
            return "its base_activation works in place"
        return weight, 0, centers

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Tensor]) -> Tensor:
        x, centers = forward_keeps(x, ready[2])
        return gaussian_layer(module, x, centers)

    def edges(self, module: Any) -> Edges:
        return gaussian_edges(module)

    @torch.no_grad()
    def converted(self, module: Any) -> GaussianKANLinear:
        grid, weight = module.rbf.grid, module.spline_linear.weight
        norm, base = getattr(module, "layernorm", None), getattr(module, "base_linear", None)
        found = GaussianKANLinear(
            weight.shape[1] // grid.numel(), weight.shape[0], grid.numel(),
            (float(grid[0]), float(grid[-1])), norm is not None, base is not None,
            getattr(module, "base_activation", None), device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        found.load_state_dict(module.state_dict())
        found.rbf.denominator = module.rbf.denominator
        if norm is not None:
            found.layernorm.eps = norm.eps
        return found
