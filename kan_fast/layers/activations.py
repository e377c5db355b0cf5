"""Which modules and functions are activations that the kernels have, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast.layers.hooks import is_plain

_MODULES: dict[type[nn.Module], str] = {
    nn.SiLU: "silu",
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.GELU: "gelu",
    nn.Tanh: "tanh",
}
_FUNCTIONS: dict[object, str] = {
    F.silu: "silu",
    F.relu: "relu",
    torch.relu: "relu",
    torch.tanh: "tanh",
    F.tanh: "tanh",
}


def known_activation(
    activation: Callable[[Tensor], Tensor],
) -> str | Callable[[Tensor], Tensor]:
    """The name of an activation that the kernels evaluate, or the callable itself.

    Subclasses, modules with hooks or a forward of their own and the tanh form of GELU are not what
    the kernels compute: they stay callables, which torch runs beside the spline.
    """
    name = _MODULES.get(type(activation))
    if name is not None:
        if not is_plain(activation, type(activation)):
            return activation
        if name == "gelu" and activation.approximate != "none":
            return activation
        return name
    try:
        return _FUNCTIONS.get(activation, activation)
    except TypeError:  # unhashable callables
        return activation


def works_in_place(activation: object) -> bool:
    """Whether a module writes into its input, so that a later reader meets its output."""
    return bool(getattr(activation, "inplace", False))


def module_of(activation: str) -> type[nn.Module] | None:
    """The class whose modules `known_activation` gives that name, if there is one."""
    return next((cls for cls, name in _MODULES.items() if name == activation), None)
