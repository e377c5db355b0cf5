"""Acceleration of code that nobody changes: `python -m kan_fast script.py`, `%load_ext kan_fast`.

Classes that look like KAN layers, those there are and those to come, get a forward that decides on
the first call of an instance, when its attributes are there, whether it can be accelerated. What
`accelerate` would leave alone is left alone, and the summary says why.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import dispatch as dispatching
from kan_fast import envs
from kan_fast.adapters import ADAPTERS, adapter_of
from kan_fast.functional import plan_for
from kan_fast.layers import KANLinear

_log = logging.getLogger("kan_fast")

#: largest difference to the original that `verify` lets pass, relative to the largest output
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


class _Watch:
    """What an installation knows: the classes it changed and the layers it has seen."""

    def __init__(self, verify: int, verbose: bool) -> None:
        self.verify = verify
        self.verbose = verbose
        self.owners: dict[type[nn.Module], Any] = {}
        #: per layer: calls left to verify
        self.seen: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self.accelerated: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.compared = 0
        self.worst = 0.0
        self.deciding = False

    def consider(self, cls: type[nn.Module]) -> None:
        """Gives the class a dispatching forward if it looks like a KAN layer's."""
        for adapter in ADAPTERS:
            if adapter.is_candidate_class(cls) and callable(getattr(cls, "forward", None)):
                owner = dispatching.dispatch(cls, adapter)
                self.owners[owner] = dispatching.own_forward(owner)
                return

    def call(self, module: nn.Module, args: tuple, forward: bool = True) -> None:
        """Decides about a layer on its first call, and compares as many calls as asked for."""
        if self.deciding:
            return  # a decision runs the layer's own forward
        if module not in self.seen:
            self.decide(module, args)
        if forward and self.seen.get(module, 0) > 0:
            self.seen[module] -= 1
            self.compare(module, args)

    def decide(self, module: nn.Module, args: tuple = ()) -> None:
        """Accelerates a layer, or notes the reason why not."""
        adapter = adapter_of(module)
        self.seen[module] = 0
        if adapter is None or isinstance(module, KANLinear):
            return
        # what is inside of a KAN belongs to it
        self.seen.update(dict.fromkeys(module.modules(), 0))
        flagged = dispatching.FLAG in module.__dict__
        self.deciding = True
        try:
            reason = None if flagged else adapter.refuses(module)
            ready = adapter.prepare(module) if reason is None else reason
            reason = ready if isinstance(ready, str) else None
        finally:
            self.deciding = False
        name = f"{type(module).__name__} {adapter.describe(module)}"
        if reason is not None:
            self.left[f"{name}: {reason}"] += 1
            self.say(f"{name} left alone: {reason}")
            return
        module.__dict__[dispatching.FLAG] = adapter.kind
        self.seen[module] = self.verify
        weight, order, *_ = ready
        # models whose methods return accelerated ones are met before any input
        x = args[0] if args and isinstance(args[0], Tensor) else weight
        backend = plan_for(x if x.is_floating_point() else weight, weight, order).backend
        self.accelerated[backend] += 1
        self.say(f"{name} accelerated ({adapter.kind}, {backend})")

    def compare(self, module: nn.Module, args: tuple) -> None:
        """Runs a call both ways; a layer that differs goes back to its own forward."""
        if len(args) != 1 or not isinstance(args[0], Tensor):
            return
        owner = next(c for c in type(module).__mro__ if c in self.owners)
        own = functools.partial(self.owners[owner], module, args[0])
        with torch.no_grad():
            theirs = own()
            adapter = adapter_of(module)
            ours = adapter.run(module, args[0], adapter.prepare(module), own)
        if isinstance(theirs, tuple):  # pykan's layers return more than their output
            theirs, ours = theirs[0], ours[0]
        error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30))
        self.compared += 1
        self.worst = max(self.worst, error)
        if error <= _TOLERANCE.get(theirs.dtype, 1e-4):
            return
        module.__dict__.pop(dispatching.FLAG, None)
        self.seen[module] = 0
        reason = f"{type(module).__name__}: differs from the original by {error:.1e}"
        self.left[reason] += 1
        _log.warning("kan_fast: %s of its largest output; it runs its own forward again", reason)

    def say(self, text: str) -> None:
        """Prints what is decided, where asked to."""
        if self.verbose:
            print(f"kan_fast: {text}", flush=True)

    def summary(self) -> str:
        """One line, and one for each reason why layers were left alone."""
        done = sum(self.accelerated.values())
        total = done + sum(self.left.values())
        if not total:
            return "kan_fast: no KAN layer was called"
        how = ", ".join(f"{n} by {backend}" for backend, n in self.accelerated.items())
        lines = [
            f"kan_fast: {done} of {total} KAN layers accelerated" + (f" ({how})" if how else "")
        ]
        if self.compared:
            lines[0] += f"; {self.compared} calls verified, largest difference {self.worst:.1e}"
        lines += [f"  left alone: {n} x {reason}" for reason, n in self.left.items()]
        return "\n".join(lines)


_watch: _Watch | None = None
_compile, _module_compile, _script = torch.compile, nn.Module.compile, torch.jit.script


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def install(verify: int = 0, verbose: bool = False) -> None:
    """Accelerates every KAN layer that the process calls from now on, whoever defines it.

    Args:
        verify: of every layer, compare so many calls with its own forward; one that differs goes
            back to it, with a warning.
        verbose: print each decision.

    `KAN_FAST_DISABLE=1` makes this do nothing.
    """
    global _watch
    if envs.DISABLE or _watch is not None:
        return
    _watch = watch = _Watch(verify, verbose)
    for cls in set(_subclasses(nn.Module)):
        watch.consider(cls)

    def init_subclass(cls: type[nn.Module], **kwargs: Any) -> None:
        super(nn.Module, cls).__init_subclass__(**kwargs)
        if _watch is not None:
            _watch.consider(cls)

    nn.Module.__init_subclass__ = classmethod(init_subclass)
    dispatching.watcher = watch.call
    torch.compile, nn.Module.compile = _deciding(_compile), _deciding(_module_compile)
    torch.jit.script = _paused(_script)


def uninstall() -> None:
    """Gives every class its own forward back."""
    global _watch
    if _watch is None:
        return
    del nn.Module.__init_subclass__
    dispatching.watcher = None
    for owner, forward in _watch.owners.items():
        owner.forward = forward
    for module in _watch.seen:
        module.__dict__.pop(dispatching.FLAG, None)
    torch.compile, nn.Module.compile, torch.jit.script = _compile, _module_compile, _script
    _watch = None


def summary() -> str:
    """How many KAN layers were accelerated, by which backend, and which were left alone and why."""
    if envs.DISABLE:
        return "kan_fast: KAN_FAST_DISABLE is set, nothing was accelerated"
    return "kan_fast: not installed" if _watch is None else _watch.summary()


def _deciding(compile_: Any) -> Any:
    """A compiler that finds the layers decided about: a traced forward cannot decide."""

    def compiling(model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if _watch is not None and isinstance(model, nn.Module):
            for module in model.modules():
                if module not in _watch.seen:
                    _watch.decide(module)
        return compile_(model, *args, **kwargs)

    return compiling


def _paused(script: Any) -> Any:
    """A scripting compiler, which reads sources, sees the classes' own forwards."""

    def scripting(*args: Any, **kwargs: Any) -> Any:
        with _own_forwards():
            return script(*args, **kwargs)

    return scripting


@contextlib.contextmanager
def _own_forwards() -> Iterator[None]:
    owners = {} if _watch is None else dict(_watch.owners)
    patched = {owner: owner.__dict__["forward"] for owner in owners}
    for owner, forward in owners.items():
        owner.forward = forward
    try:
        yield
    finally:
        for owner, forward in patched.items():
            owner.forward = forward
