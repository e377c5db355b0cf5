"""Whether somebody watches a module or has changed it, so that it must be called and not read."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import nn

_of_class = attrgetter("forward", "__call__", "__getattr__")
#: what torch's modules were when kan_fast was imported
_FOUND = {
    cls: _of_class(cls)
    for cls in (nn.SiLU, nn.Identity, nn.ReLU, nn.GELU, nn.Tanh, nn.Linear, nn.LayerNorm)
}


def has_hooks(module: nn.Module) -> bool:
    """Whether the module has hooks, or a forward, of its own."""
    own = module.__dict__
    return bool(
        "forward" in own
        or own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    )


def has_global_hooks() -> bool:
    """Whether there are hooks of all modules."""
    m = nn.modules.module
    return bool(
        m._global_forward_hooks
        or m._global_forward_pre_hooks
        or m._global_backward_hooks
        or m._global_backward_pre_hooks
    )


def _hides(cls: type[nn.Module]) -> bool:
    """Whether an attribute of a class stands before a tensor of its instances."""
    return hasattr(cls, "weight") or hasattr(cls, "bias")


def is_plain(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether calling the module is what torch's class `cls` does with the module's tensors, and
    nobody watches; a subclass may differ in all but that.

    Pruning and the older norms of weights are hooks; reading a parametrised tensor may change it.
    """
    if torch.compiler.is_compiling():  # which cannot trace the rest
        m = module
        hooks = m._forward_hooks or m._forward_pre_hooks or m._backward_hooks
        return type(m) is cls and not (hooks or m._backward_pre_hooks)
    return (
        isinstance(module, cls)
        and _of_class(type(module)) == _FOUND[cls]
        and not has_hooks(module)
        and "parametrizations" not in module._modules
        and (type(module) is cls or not _hides(type(module)))
        and not has_global_hooks()
    )
