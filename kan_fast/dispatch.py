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
#: sees every call of a layer whose class is known, before it is decided how to run it: the layer,
#: the arguments and whether the call is of its forward; set by `zero_code.py`
watcher: Callable[[Any, tuple, bool], None] | None = None


def dispatch(cls: type[nn.Module], adapter: ModuleType) -> type[nn.Module]:
    """Gives the class that defines `forward` a dispatching one, once; returns that class."""
    owner = next(c for c in cls.__mro__ if "forward" in c.__dict__)
    original = owner.__dict__["forward"]
    if hasattr(original, FLAG):
        return owner

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if watcher is not None and not torch.compiler.is_compiling():
            watcher(self, args, True)
        # where no kernel runs, the layer's own code is the best
        if FLAG in self.__dict__ and adapter.takes(self, args, kwargs):
            return adapter.run(self, args[0], functools.partial(original, self, *args, **kwargs))
        return original(self, *args, **kwargs)

    setattr(forward, FLAG, original)
    owner.forward = forward
    methods = getattr(adapter, "methods", None)
    for name, run in (methods(cls) if methods else {}).items():
        _dispatch_method(cls, name, run, adapter)
    return owner


def _dispatch_method(
    cls: type[nn.Module], name: str, run: Callable | None, adapter: ModuleType
) -> None:
    """The same for another method: `run(module, original, *args)` where the module or an argument
    is accelerated; then so is a model that it returns."""
    owner = next((c for c in cls.__mro__ if name in c.__dict__), None)
    if owner is None or hasattr(owner.__dict__[name], FLAG):
        return
    original = owner.__dict__[name]

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if watcher is not None:
            watcher(self, args, False)
        if not any(FLAG in getattr(given, "__dict__", ()) for given in (self, *args)):
            return original(self, *args, **kwargs)
        own = functools.partial(original, self)
        found = own(*args, **kwargs) if run is None else run(self, own, *args, **kwargs)
        if isinstance(found, nn.Module) and adapter.is_candidate(found):
            if adapter.why_not(found) is None:
                found.__dict__[FLAG] = adapter.kind
        return found

    setattr(method, FLAG, original)
    setattr(owner, name, method)


def own_forward(owner: type[nn.Module]) -> Callable[..., Any]:
    """The forward that a class had before `dispatch`."""
    return getattr(owner.__dict__["forward"], FLAG)
