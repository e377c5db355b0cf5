"""The adapters of pykan's model and of its layer by itself: what their plain forwards use.

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from kan_fast.interop.adapters.base import ANY, Adapter, Uses, are_plain, tensors_of
from kan_fast.interop.adapters.guard import FLAG
from kan_fast.interop.adapters.pykan import layer as pykan_layer
from kan_fast.interop.adapters.pykan import model as pykan
from kan_fast.interop.adapters.pykan import splines as pykan_splines
from kan_fast.interop.adapters.source import fingerprint, global_of
from kan_fast.layers.edges import Edges, Splines
from kan_fast.layers.hooks import has_global_hooks, has_hooks
from kan_fast.spec import MAX_SPLINE_ORDER

#: fingerprints of the forward of a layer, of the evaluation of splines and of the basis
KNOWN_LAYERS: dict[str, str] = {"5b5c8a7277ba2a09": "pykan 0.2.8"}
#: fingerprints of the forwards of a model and of a symbolic layer
KNOWN_MODELS: dict[str, str] = {"2336d17c31980404": "pykan 0.2.8"}

_OF_LAYER = ("in_dim", "out_dim", "k")
_TENSORS = ("grid", "coef", "scale_base", "scale_sp", "mask")
_OF_SYMBOLIC = ("in_dim", "out_dim")


def layer_source(cls: type[nn.Module]) -> str | None:
    """Fingerprint of what a forward of a layer computes."""
    helpers = (global_of(cls.forward, name) for name in ("coef2curve", "B_batch"))
    return fingerprint(cls.forward, *helpers)


class Pykan(Adapter):
    """pykan's KAN, all layers of it."""

    kind = "pykan"
    arguments = {"singularity_avoiding": ANY, "y_th": ANY}

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return pykan.is_candidate_class(cls)

    def is_candidate(self, module: nn.Module) -> bool:
        return pykan.is_candidate(module)

    def inside(self, module: Any) -> Iterator[Uses]:
        for name, settings in (("act_fun", _OF_LAYER), ("symbolic_fun", _OF_SYMBOLIC)):
            for n, layer in enumerate(getattr(module, name)):
                yield (name, str(n)), layer, (), settings

    def why_not(self, module: Any) -> str | None:
        lists = (module.act_fun, module.symbolic_fun)
        if not all(type(layers) is nn.ModuleList and len(layers) for layers in lists):
            return "its act_fun and symbolic_fun should be ModuleLists with a layer or more"
        models = {fingerprint(type(module).forward, type(s).forward) for s in module.symbolic_fun}
        layers = {layer_source(type(layer)) for layer in module.act_fun}
        if not (models <= KNOWN_MODELS.keys() and layers <= KNOWN_LAYERS.keys()):
            return "its source is not that of pykan 0.2.8"
        if any(layer.k > MAX_SPLINE_ORDER for layer in module.act_fun):
            return f"its k should be at most {MAX_SPLINE_ORDER}"
        return None

    def describe(self, module: Any) -> str:
        return pykan.describe(module)

    def replacements(self, cls: type[nn.Module]) -> dict[str, Callable | None]:
        return pykan.methods(cls)

    def prepare(self, module: Any) -> tuple | str:
        if has_global_hooks():
            return "there are hooks of all modules"
        numerical, symbolic = tensors_of(module, ("act_fun", "symbolic_fun"))
        if not len(numerical) == len(symbolic) == module.depth:
            return "its act_fun and symbolic_fun are not as many as its depth says"
        for layer in (*numerical._modules.values(), *symbolic._modules.values()):
            if has_hooks(layer):
                return f"a {type(layer).__name__} inside has hooks"
            if "parametrizations" in layer._modules:
                return f"a {type(layer).__name__} inside is parametrised"
        for layer in numerical._modules.values():
            if (reason := _misfit(layer, tensors_of(layer, _TENSORS))) is not None:
                return reason
        for layer in symbolic._modules.values():
            mask, affine = tensors_of(layer, ("mask", "affine"))
            sizes = layer.out_dim, layer.in_dim
            if not are_plain(mask, affine) or mask.shape != sizes or affine.shape != (*sizes, 4):
                return "a mask or affine of its symbols is not what its sizes say"
        return pykan.own_code_reason(module) or pykan.weight_and_order(module)

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Tensor]) -> Tensor:
        coef = ready[0]
        if x.dim() != 2 or x.dtype != coef.dtype:
            raise ValueError(f"{x.dim()}-D input of {x.dtype} to a model of {coef.dtype}")
        if not x.shape[0]:
            raise ValueError("an input without rows")
        return pykan.run(module, x, own, lambda reason: module.__dict__[FLAG].runs.partly(reason))

    def layers(self, model: Any, x: Tensor) -> list[tuple[Edges, Tensor]]:
        return pykan_splines.edges_and_inputs(model, x)

    def splines(self, module: Any) -> list[Splines]:
        return pykan_splines.of_model(module)


class PykanLayer(Adapter):
    """pykan's KANLayer by itself."""

    kind = "pykan layer"
    settings = _OF_LAYER

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return pykan_layer.is_candidate_class(cls)

    def is_candidate(self, module: nn.Module) -> bool:
        return pykan_layer.is_candidate(module)

    def why_not(self, module: Any) -> str | None:
        if layer_source(type(module)) not in KNOWN_LAYERS:
            return "its source is not that of pykan 0.2.8"
        if module.k > MAX_SPLINE_ORDER:
            return f"its k should be at most {MAX_SPLINE_ORDER}"
        return None

    def describe(self, module: Any) -> str:
        return pykan_layer.describe(module)

    def replacements(self, cls: type[nn.Module]) -> dict[str, Callable | None]:
        return pykan_layer.methods(cls)

    def prepare(self, module: Any) -> tuple | str:
        reason = _misfit(module, tensors_of(module, _TENSORS))
        return reason or pykan_layer.own_code_reason(module) or (module.coef, module.k)

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], tuple]) -> tuple:
        coef = ready[0]
        if x.dim() != 2 or x.shape[1] != coef.shape[0] or x.dtype != coef.dtype:
            raise ValueError(f"input {list(x.shape)} of {x.dtype} to a layer of {coef.dtype}")
        if not pykan_layer.is_finite(x, module):
            raise ValueError("a number that is not finite")
        return pykan_layer.run(module, x)

    def edges(self, module: Any) -> Edges:
        return pykan_splines.as_they_are(module).edges()

    def splines(self, module: Any) -> Splines:
        return pykan_splines.of_layer(module)


def _misfit(layer: Any, tensors: list) -> str | None:
    """What of a layer's tensors pykan's code does with, and kernels do not."""
    knots, coef, *scales = tensors
    if not are_plain(*tensors):
        return "a weight or its grid is a tensor subclass or no tensor"
    sizes = layer.in_dim, layer.out_dim
    if any(t.shape[:2] != sizes or t.dtype is not knots.dtype for t in (coef, *scales)):
        return "its tensors have other shapes than its sizes say, or several dtypes"
    if len(knots) not in (1, sizes[0]):
        return "its tensors have other shapes than its sizes say"
    return None
