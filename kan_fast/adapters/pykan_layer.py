"""pykan's KANLayer by itself: `y, preacts, postacts, postspline = layer(x)`.

`y` is one kernel call; the others, of size `[rows, out_dim, in_dim]`, are computed when used.

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.activations import known_activation
from kan_fast.adapters import pykan_grid
from kan_fast.adapters.calls import only_tensor
from kan_fast.adapters.pykan_activations import LayerActivations
from kan_fast.adapters.source import fingerprint
from kan_fast.functional import has_kernel, kan_linear
from kan_fast.spec import MAX_SPLINE_ORDER
from kan_fast.torch_internals import tree_map

kind = "pykan layer"

#: fingerprints of the forward, of the basis and of the evaluation of splines
KNOWN_SOURCES: dict[str, str] = {"5df042ae45cb9a59": "pykan 0.2.8"}
#: fingerprints of what sets grids
KNOWN_GRIDS: dict[str, str] = {"e3cbbfceb85b4702": "pykan 0.2.8"}

_METHODS = ("forward", "update_grid_from_samples", "initialize_grid_from_parent", "get_subset")
_ATTRIBUTES = ("grid", "coef", "mask", "scale_base", "scale_sp", "base_fun", "k")


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be pykan layers."""
    return all(callable(getattr(cls, name, None)) for name in _METHODS)


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the methods and attributes of a pykan layer."""
    return is_candidate_class(type(module)) and all(hasattr(module, n) for n in _ATTRIBUTES)


def describe(module: Any) -> str:
    """Its size, for reports."""
    return f"{module.coef.shape[0]} -> {module.coef.shape[1]}"


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """Its weight and degree, which the planner wants to know."""
    return module.coef, module.k


def source(cls: type) -> str | None:
    """Fingerprint of what a forward computes."""
    names = vars(sys.modules[cls.__module__])
    return fingerprint(cls.forward, names.get("coef2curve"), names.get("B_batch"))


def sets_known_grids(cls: type | None) -> bool:
    """Whether a layer class sets grids as pykan does."""
    if cls is None or not is_candidate_class(cls):
        return False
    names = vars(sys.modules[cls.__module__])
    functions = (cls.update_grid_from_samples, cls.initialize_grid_from_parent)
    spline = (names.get(n) for n in ("coef2curve", "curve2coef", "extend_grid", "B_batch"))
    return fingerprint(*functions, *spline) in KNOWN_GRIDS


def methods(cls: type[nn.Module]) -> dict[str, Callable | None]:
    """What takes the place of the class's own methods on accelerated layers."""
    if not sets_known_grids(cls):
        return {}
    return {
        "update_grid_from_samples": pykan_grid.update_layer,
        "initialize_grid_from_parent": pykan_grid.from_parent,
    }


def why_not(module: Any) -> str | None:
    """The reason why a candidate is left alone, as a sentence; None when it can be accelerated."""
    if source(type(module)) not in KNOWN_SOURCES:
        return "its source is not that of pykan 0.2.8"
    if module.k > MAX_SPLINE_ORDER:
        return f"its k should be at most {MAX_SPLINE_ORDER}"
    if not isinstance(known_activation(module.base_fun), str):
        return "its base_fun is not an activation that the kernels know"
    return None


def takes(module: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is one that `run` knows, on an input that a kernel runs."""
    x = only_tensor(args, kwargs)
    if x is None or torch.compiler.is_compiling() or x.dtype != module.coef.dtype:
        return False
    fits = x.dim() == 2 and x.shape[1] == module.coef.shape[0]
    return fits and has_kernel(x, *weight_and_order(module))


def run(module: Any, x: Tensor, original: Callable[[], tuple]) -> tuple:
    """`y` and what else pykan's forward returns, `original` being the call of its own."""
    activation = known_activation(module.base_fun)
    if not isinstance(activation, str) or not pykan_grid.regular(module.grid):
        return original()
    y = sum_of_edges(module, x, activation)
    kept = LayerActivations(module, x.clone(), y, activation)
    return y, kept.preacts(), LazyTensor(kept.postacts), LazyTensor(kept.postspline)


def sum_of_edges(layer: Any, x: Tensor, activation: str) -> Tensor:
    """sum_i mask (scale_base base(x_i) + scale_sp spline(x_i))."""
    return kan_linear(
        x, layer.grid, *weights(layer), spline_order=layer.k, base_activation=activation
    )


def weights(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """spline_weight, spline_scaler and base_weight of `kan_linear`; pykan keeps inputs first."""
    mask = layer.mask
    return layer.coef.transpose(0, 1), (layer.scale_sp * mask).t(), (layer.scale_base * mask).t()


class LazyTensor:
    """Stands for a tensor that is computed at its first use; torch functions take it as one."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._compute = compute
        self._value: Tensor | None = None

    def tensor(self) -> Tensor:
        """The tensor itself."""
        if self._value is None:
            self._value = self._compute()
        return self._value

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        args, kwargs = tree_map(_plain, (args, kwargs or {}))
        return function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor(), name)

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self.tensor().detach().clone()

    def __reduce__(self) -> tuple:
        return _plain, (self.tensor().detach(),)


def _plain(value: Any) -> Any:
    return value.tensor() if isinstance(value, LazyTensor) else value


def _operator(name: str) -> Callable:
    def operate(self: LazyTensor, *args: Any) -> Any:
        return getattr(self.tensor(), name)(*map(_plain, args))

    return operate


# python looks operators up on the class, not on the instance
for _name in (
    "abs add and bool eq float floordiv ge getitem gt index int invert iter le len lt matmul mod "
    "mul ne neg or pos pow radd rand repr rfloordiv rmatmul rmod rmul ror rpow rsub rtruediv "
    "rxor sub truediv xor array"
).split():
    setattr(LazyTensor, f"__{_name}__", _operator(f"__{_name}__"))
