"""pykan's KAN (`MultKAN`): training without its python loops and expanded tensors.

A layer is one kernel call. The symbolic branch runs for the edges that are symbolic
(`symbols.py`); what pykan keeps of a forward is computed when it is read (`activations.py`); grids
are fitted through the Gram matrix (`grid.py`).

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

from kan_fast.interop.adapters.base import has, is_trained
from kan_fast.interop.adapters.pykan import grid as pykan_grid
from kan_fast.interop.adapters.pykan import symbols as pykan_symbols
from kan_fast.interop.adapters.pykan.activations import LayerActivations, keep
from kan_fast.interop.adapters.pykan.layer import is_finite, sum_of_edges
from kan_fast.interop.adapters.pykan.symbols import is_zero
from kan_fast.interop.adapters.source import fingerprint
from kan_fast.layers.activations import known_activation, works_in_place
from kan_fast.torch_internals import in_forward_mode, in_transform

#: fingerprints of what sets grids
KNOWN_GRIDS: dict[str, str] = {"76bd5f1a659de62f": "pykan 0.2.8"}

_METHODS = ("forward", "fix_symbolic", "update_grid", "get_act", "speed", "prune_node")
_ATTRIBUTES = ("act_fun", "symbolic_fun", "node_scale", "subnode_scale", "width", "mult_arity")


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be pykan models."""
    return all(callable(getattr(cls, name, None)) for name in _METHODS)


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the methods and attributes of a pykan model."""
    return is_candidate_class(type(module)) and all(has(module, n) for n in _ATTRIBUTES)


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
    return found | grids if own in KNOWN_GRIDS and pykan_grid.sets_known_grids(layer) else found


def _layer_reason(n: int, layer: Any) -> str | None:
    """Why pykan's code runs one layer."""
    if activation_of(layer) is None:
        return f"a base function that no kernel has in layer {n}"
    if not pykan_grid.regular(layer.grid):
        return f"coinciding knots in layer {n}"
    return None


def own_code_reason(module: Any) -> str | None:
    """Why pykan's code runs the whole model, whatever its input; None where it does not."""
    for n, layer in enumerate(module.act_fun):
        if is_trained(layer.grid):
            return f"a grid that requires a gradient in layer {n}"
        if module.symbolic_enabled and module.symbolic_fun[n].mask.requires_grad:
            return f"a symbolic mask that requires a gradient in layer {n}"
    if not _multiplies_pairs(module):
        return "groups of products that its widths do not say, or of fewer than two"
    if module.save_act or module.symbolic_enabled:
        if in_transform() or in_forward_mode():
            return "a transform around it while save_act or symbolic_enabled is on"
        if torch.compiler.is_compiling():
            return "a compiler around it while save_act or symbolic_enabled is on"
    return None


def _multiplies_pairs(module: Any) -> bool:
    """Whether all products are of two columns or more: of fewer, pykan takes what it computed
    before."""
    for n, (_, products) in enumerate(module.width[1:], 1):
        if products:
            same = module.mult_homo
            arities = [module.mult_arity] * products if same else list(module.mult_arity[n])
            if len(arities) != products or min(arities) < 2:
                return False
    return True


def run(
    module: Any, x: Tensor, original: Callable[[], Tensor], note: Callable[[str], None]
) -> Tensor:
    """The model on `x`, `original` being the call of its own forward; `note` takes the reason why
    pykan's code runs a layer."""
    x = x[:, module.input_id.long()]
    if x.shape[1] != module.width_in[0]:
        raise AssertionError(
            f"pykan: x should have {module.width_in[0]} columns, got {x.shape[1]}; see input_id"
        )
    avoid, y_th = _singularities(*original.args[2:], **original.keywords)
    module.cache_data = x
    module.acts, module.acts_premult = [x], []
    keep(module, [])  # the last graph ends before the next begins
    kept = []
    for n, layer in enumerate(module.act_fun):
        reason, activation = _layer_reason(n, layer), activation_of(layer)
        if not is_finite(x, layer):
            # the symbols of all edges have a part of them, and so has what is recorded
            raise ValueError(f"numbers that are not finite in layer {n}")
        own = None
        if reason is None:
            y = sum_of_edges(layer, x, activation)
        else:
            _warn_once(describe(module), n, reason)
            note(reason)
            y, _, *own = layer(x)
        symbols: tuple = (None, None, None)
        if module.symbolic_enabled:
            y, *symbols = pykan_symbols.add(module.symbolic_fun[n], x, y, avoid, y_th)
        if module.save_act:
            kept.append(LayerActivations(layer, x, y, activation or "zero", *symbols, own))
        x = torch.addcmul(module.subnode_bias[n], module.subnode_scale[n], y)
        if module.save_act:
            module.acts_premult.append(x.detach())
        x = _products(x, *module.width[n + 1], module.mult_arity, module.mult_homo, n + 1)
        x = torch.addcmul(module.node_bias[n], module.node_scale[n], x)
        module.acts.append(x.detach())
    if kept:
        keep(module, kept)
    return x


@functools.cache
def _warn_once(size: str, n: int, reason: str) -> None:
    warnings.warn(
        f"kan_fast: the pykan model {size} runs its own code for layer {n} because of {reason}",
        UserWarning,
        stacklevel=6,
    )


def activation_of(layer: Any) -> str | None:
    """The kernels' name of a layer's base function; None where they do not know it."""
    if works_in_place(layer.base_fun):
        return None
    known = known_activation(layer.base_fun)
    if isinstance(known, str):
        return known
    # a lambda of pykan's own
    return "zero" if is_zero(layer.base_fun) else None


def _singularities(singularity_avoiding: bool = False, y_th: float = 10.0) -> tuple[bool, float]:
    return singularity_avoiding, y_th


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
