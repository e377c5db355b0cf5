"""pykan's KAN (`MultKAN`): training without its python loops and expanded tensors.

A layer is one kernel call. The symbolic branch runs for the edges that are symbolic; what pykan
keeps of a forward is computed when it is read (`pykan_activations.py`); grids are fitted through
the Gram matrix (`pykan_grid.py`).

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.activations import known_activation
from kan_fast.adapters import pykan_grid
from kan_fast.adapters.pykan_activations import LayerActivations, attributes
from kan_fast.adapters.pykan_layer import sets_known_grids, sum_of_edges
from kan_fast.adapters.source import fingerprint
from kan_fast.functional import has_kernel
from kan_fast.spec import MAX_SPLINE_ORDER

kind = "pykan"

#: fingerprints of the forward of model and layer and of the basis
KNOWN_SOURCES: dict[str, str] = {"63c2d5ea3a789a86": "pykan 0.2.8"}
#: fingerprints of what sets grids
KNOWN_GRIDS: dict[str, str] = {"76bd5f1a659de62f": "pykan 0.2.8"}

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


def methods(cls: type[nn.Module]) -> dict[str, Callable | None]:
    """What takes the place of the class's own methods on accelerated models; None for those that
    only return a model, which is then accelerated as well."""
    found: dict[str, Callable | None] = dict.fromkeys(
        ("refine", "prune_node", "prune", "prune_input", "copy", "rewind", "checkout")
    )
    grids = {
        "update_grid_from_samples": pykan_grid.update_model,
        "initialize_grid_from_another_model": pykan_grid.model_grid_from_another,
        "initialize_from_another_model": pykan_grid.model_from_another,
    }
    layer = vars(sys.modules[cls.__module__]).get("KANLayer")
    own = fingerprint(*[getattr(cls, name, None) for name in grids])
    return found | grids if own in KNOWN_GRIDS and sets_known_grids(layer) else found


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
    activations = [activation_of(module, layer) for layer in module.act_fun]
    regular = all(pykan_grid.regular(layer.grid) for layer in module.act_fun)
    if not regular or None in activations:
        what = "a base function that no kernel has" if regular else "knots that coincide"
        _warn_once(describe(module), what)
        return _without_idle_symbols(module, original)
    x = x[:, module.input_id.long()]
    if x.shape[1] != module.width_in[0]:
        raise AssertionError(
            f"pykan: x should have {module.width_in[0]} columns, got {x.shape[1]}; see input_id"
        )
    avoid, y_th = _singularities(*original.args[2:], **original.keywords)
    module.cache_data = x
    module.acts, module.acts_premult = [x], []
    kept = []
    for n, (layer, activation) in enumerate(zip(module.act_fun, activations, strict=True)):
        y = sum_of_edges(layer, x, activation)
        edges = symbolic = None
        if module.symbolic_enabled and bool(module.symbolic_fun[n].mask.any()):
            edges, symbolic = _symbolic(module.symbolic_fun[n], x, avoid, y_th)
            y = y.index_add(1, edges[0], symbolic)
        if module.save_act:
            kept.append(LayerActivations(layer, x, y, activation, edges, symbolic))
        x = torch.addcmul(module.subnode_bias[n], module.subnode_scale[n], y)
        if module.save_act:
            module.acts_premult.append(x.detach())
        x = _products(x, *module.width[n + 1], module.mult_arity, module.mult_homo, n + 1)
        x = torch.addcmul(module.node_bias[n], module.node_scale[n], x)
        module.acts.append(x.detach())
    for name, found in attributes(kept).items():
        setattr(module, name, found if kept else [])
    return x


@functools.cache
def _warn_once(size: str, what: str) -> None:
    warnings.warn(
        f"kan_fast: the pykan model {size} runs its own forward while it has {what}",
        UserWarning,
        stacklevel=4,
    )


def activation_of(module: Any, layer: Any) -> str | None:
    """The kernels' name of a layer's base function; None where they do not know it."""
    known = known_activation(layer.base_fun)
    if isinstance(known, str):
        return known
    # a lambda of pykan's own
    return "zero" if getattr(module, "base_fun_name", None) == "zero" else None


def _without_idle_symbols(module: Any, original: Callable[[], Tensor]) -> Tensor:
    """Its own forward, which would loop over all edges to add zeros where none is symbolic."""
    enabled = module.symbolic_enabled
    idle = not any(bool(layer.mask.any()) for layer in module.symbolic_fun)
    module.symbolic_enabled = enabled and not idle
    try:
        return original()
    finally:
        module.symbolic_enabled = enabled


def _singularities(singularity_avoiding: bool = False, y_th: float = 10.0) -> tuple[bool, float]:
    return singularity_avoiding, y_th


def _symbolic(
    layer: Any, x: Tensor, avoid: bool, y_th: float
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Values of the symbolic edges in use, `[rows, edges]`, after their (out, in) indices."""
    out, into = layer.mask.nonzero(as_tuple=True)
    columns = []
    for o, i in zip(out.tolist(), into.tolist(), strict=True):
        a, b, c, d = layer.affine[o, i]
        at = a * x[:, [i]] + b
        if avoid:
            value = layer.funs_avoid_singularity[o][i](at, torch.tensor(y_th))[1]
        else:
            value = layer.funs[o][i](at)
        columns.append(layer.mask[o, i] * (c * value + d))
    return (out, into), torch.cat(columns, dim=1)


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
