"""pykan's KAN (`MultKAN`): training without its python loops and expanded tensors.

While no activations are asked for (`save_act` off: in `fit` without `lamb`, after `speed()`) a
layer is one kernel call. While they are, pykan's own forward runs, but without the symbolic branch
when no edge is symbolic: it would loop over all edges to add zeros.

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.activations import known_activation
from kan_fast.adapters.source import fingerprint
from kan_fast.functional import has_kernel, kan_linear
from kan_fast.spec import MAX_SPLINE_ORDER

kind = "pykan"

#: fingerprints of the forward of model and layer and of the basis
KNOWN_SOURCES: dict[str, str] = {"63c2d5ea3a789a86": "pykan 0.2.8"}

_METHODS = ("forward", "fix_symbolic", "update_grid", "get_act", "speed", "prune_node")
_ATTRIBUTES = ("act_fun", "symbolic_fun", "node_scale", "subnode_scale", "width", "mult_arity")


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be pykan models."""
    return all(callable(getattr(cls, name, None)) for name in _METHODS)


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the methods and attributes of a pykan model."""
    return is_candidate_class(type(module)) and all(hasattr(module, n) for n in _ATTRIBUTES)


def describe(module: Any) -> str:
    """Its size, for reports."""
    return "-".join(str(n) for n in module.width_in)


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """A weight and the highest degree, which the planner wants to know."""
    return module.act_fun[0].coef, max(layer.k for layer in module.act_fun)


def why_not(module: Any) -> str | None:
    """The reason why a candidate is left alone, as a sentence; None when it can be accelerated."""
    layer = type(module.act_fun[0])
    names = sys.modules[layer.__module__].__dict__
    functions = (type(module).forward, layer.forward, names.get("coef2curve"), names.get("B_batch"))
    if fingerprint(*functions) not in KNOWN_SOURCES:
        return "its source is not that of pykan 0.2.8"
    if any(layer.k > MAX_SPLINE_ORDER for layer in module.act_fun):
        return f"its k should be at most {MAX_SPLINE_ORDER}"
    return None


def takes(module: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is one that `run` knows, on an input that a kernel runs."""
    if not args or not kwargs.keys() <= {"singularity_avoiding", "y_th"}:
        return False
    x, coef = args[0], module.act_fun[0].coef
    return (
        isinstance(x, Tensor)
        and x.dim() == 2
        and x.dtype == coef.dtype
        and x.is_floating_point()
        and has_kernel(x, *weight_and_order(module))
    )


def run(module: Any, x: Tensor, original: Callable[[], Tensor]) -> Tensor:
    """The model on `x`, `original` being the call of its own forward."""
    if any(bool(layer.mask.any()) for layer in module.symbolic_fun):
        return original()
    # pykan's knots may coincide, where its functions are not the usual ones
    regular = all(bool((f.grid[:, 1:] > f.grid[:, :-1]).all()) for f in module.act_fun)
    if module.save_act or not regular:
        enabled, module.symbolic_enabled = module.symbolic_enabled, False
        try:
            return original()
        finally:
            module.symbolic_enabled = enabled
    return _run(module, x)


def _run(module: Any, x: Tensor) -> Tensor:
    x = x[:, module.input_id.long()]
    if x.shape[1] != module.width_in[0]:
        raise AssertionError(
            f"pykan: x should have {module.width_in[0]} columns, got {x.shape[1]}; see input_id"
        )
    module.cache_data = x
    module.acts = [x]
    for name in (
        "acts_premult", "spline_preacts", "spline_postsplines", "spline_postacts", "acts_scale",
        "acts_scale_spline", "subnode_actscale", "edge_actscale",
    ):  # fmt: skip
        setattr(module, name, [])
    for n, layer in enumerate(module.act_fun):
        x = _layer(layer, x)
        x = torch.addcmul(module.subnode_bias[n], module.subnode_scale[n], x)
        x = _products(x, *module.width[n + 1], module.mult_arity, module.mult_homo, n + 1)
        x = torch.addcmul(module.node_bias[n], module.node_scale[n], x)
        module.acts.append(x.detach())
    return x


def _layer(layer: Any, x: Tensor) -> Tensor:
    """sum_i mask (scale_base base(x_i) + scale_sp spline(x_i)); pykan keeps inputs first."""
    return kan_linear(
        x, layer.grid, layer.coef.transpose(0, 1), (layer.scale_sp * layer.mask).t(),
        (layer.scale_base * layer.mask).t(), spline_order=layer.k,
        base_activation=known_activation(layer.base_fun),
    )  # fmt: skip


def _products(x: Tensor, sums: int, products: int, arity: Any, same: bool, layer: int) -> Tensor:
    """The first `sums` columns, then one column for each group that multiplies `arity` columns."""
    if products == 0:
        return x
    arities = [arity] * products if same else list(arity[layer])
    found, at = [x[:, :sums]], sums
    for count in arities:
        product = x[:, at : at + 1]
        for n in range(1, count):
            product = product * x[:, at + n : at + n + 1]
        found.append(product)
        at += count
    return torch.cat(found, dim=1)
