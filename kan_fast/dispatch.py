"""The forward that an accelerated class has: it looks at a flag on the instance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

#: set on accelerated instances; holds the kind of the adapter
FLAG = "_kan_fast"
#: sees every call of a layer whose class is known, before it is decided how to run it; set by
#: `zero_code.py`
watcher: Callable[[Any, tuple], None] | None = None


def dispatch(cls: type[nn.Module], adapter: ModuleType) -> type[nn.Module]:
    """Gives the class that defines `forward` a dispatching one, once; returns that class."""
    owner = next(c for c in cls.__mro__ if "forward" in c.__dict__)
    original = owner.__dict__["forward"]
    if hasattr(original, FLAG):
        return owner

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if watcher is not None and not torch.compiler.is_compiling():
            watcher(self, args)
        # where no kernel runs, the layer's own code is the best
        if FLAG in self.__dict__ and adapter.takes(self, args, kwargs):
            return adapter.run(self, args[0], functools.partial(original, self, *args, **kwargs))
        return original(self, *args, **kwargs)

    setattr(forward, FLAG, original)
    owner.forward = forward
    return owner


def own_forward(owner: type[nn.Module]) -> Callable[..., Any]:
    """The forward that a class had before `dispatch`."""
    return getattr(owner.__dict__["forward"], FLAG)
