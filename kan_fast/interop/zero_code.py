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
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import envs
from kan_fast.interop import dispatch as dispatching
from kan_fast.interop import unrecognised as unknown
from kan_fast.interop.adapters import adapter_of, adapter_of_class, ours_of
from kan_fast.interop.runs import Runs
from kan_fast.interop.tally import Tally
from kan_fast.ops.plan import plan_for

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
        #: of every layer that was met: what it is, and its calls
        self.runs: list[tuple[str, str, Runs]] = []
        #: the calls of layers that were left alone, and why
        self.own: weakref.WeakKeyDictionary[nn.Module, tuple[Runs, str]] = (
            weakref.WeakKeyDictionary()
        )
        #: layers that look like KANs and that no adapter knows, by class
        self.unrecognised: Counter[str] = Counter()
        self.compared = 0
        self.worst = 0.0
        self.deciding = False
        self.on_first: Callable[[], None] | None = None

    def consider(self, cls: type[nn.Module]) -> None:
        """Gives the class a dispatching forward if it looks like a KAN layer's."""
        adapter = adapter_of_class(cls)
        if adapter is not None and callable(getattr(cls, "forward", None)):
            owner = dispatching.dispatch(cls, adapter)
            self.owners[owner] = dispatching.own_forward(owner)
            return
        if "forward" in cls.__dict__ and unknown.is_look_alike_class(cls):
            self.owners[cls] = cls.__dict__["forward"]
            cls.forward = self.noting(cls.__dict__["forward"])

    def noting(self, original: Any) -> Any:
        """A forward that does what it did, and is noted at the first call of an instance."""

        @functools.wraps(original)
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling() and module not in self.seen:
                self.note(module)
            return original(module, *args, **kwargs)

        setattr(forward, dispatching.FLAG, original)
        return forward

    def note(self, module: nn.Module) -> None:
        """Notes a layer that looks like a KAN and that no adapter knows."""
        self.seen[module] = 0
        if unknown.is_unrecognised(module):
            self.unrecognised[type(module).__name__] += 1
            self.say(f"{type(module).__name__} is not recognised")

    def call(self, module: nn.Module, args: tuple, forward: bool = True) -> None:
        """Decides about a layer on its first call, and compares as many calls as asked for."""
        if self.deciding:
            return  # a decision runs the layer's own forward
        if module not in self.seen:
            self.decide(module, args)
        if forward and module in self.own:
            runs, reason = self.own[module]
            runs.own[reason] += 1
        if forward and self.seen.get(module, 0) > 0:
            self.seen[module] -= 1
            self.compare(module, args)

    def decide(self, module: nn.Module, args: tuple = ()) -> None:
        """Accelerates a layer, or notes the reason why not."""
        if self.on_first is not None:
            self.on_first()
            self.on_first = None
        adapter = adapter_of(module)
        self.seen[module] = 0
        if ours_of(module) is not None:
            return
        if adapter is None:
            self.note(module)
            return
        # what is inside of a KAN belongs to it
        self.seen.update(dict.fromkeys(module.modules(), 0))
        self.deciding = True
        try:
            verdict = dispatching.judge(module, adapter)
        finally:
            self.deciding = False
        name = f"{type(module).__name__} {adapter.describe(module)}"
        self.runs.append((name, adapter.kind, verdict.runs))
        ready = verdict.reason or adapter.prepare(module)
        if isinstance(ready, str):
            self.left[f"{name}: {ready}"] += 1
            self.say(f"{name} left alone: {ready}")
            if verdict.reason is not None:
                self.leave(module, verdict.runs, ready)
            return
        self.seen[module] = self.verify
        weight, order, *_ = ready
        # models whose methods return accelerated ones are met before any input
        x = args[0] if args and isinstance(args[0], Tensor) else weight
        backend = plan_for(x if x.is_floating_point() else weight, weight, order).backend
        self.accelerated[backend] += 1
        self.say(f"{name} accelerated ({adapter.kind}, {backend})")

    def leave(self, module: nn.Module, runs: Runs, reason: str) -> None:
        """From now on the layer runs its own code."""
        module.__dict__.pop(dispatching.FLAG, None)
        self.own[module] = (runs, reason)

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
        self.seen[module] = 0
        self.leave(module, module.__dict__[dispatching.FLAG].runs, "it differs from the original")
        reason = f"{type(module).__name__}: differs from the original by {error:.1e}"
        self.left[reason] += 1
        _log.warning("kan_fast: %s of its largest output; it runs its own forward again", reason)

    def say(self, text: str) -> None:
        """Prints what is decided, where asked to."""
        if self.verbose:
            print(f"kan_fast: {text}", flush=True)

    def tally(self) -> Tally:
        """What there is to say, as data."""
        return Tally(
            self.accelerated, self.left, self.runs, self.unrecognised, self.compared, self.worst
        )


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


def tally() -> Tally | None:
    """The counts of this process as data; None where nothing is installed."""
    return None if _watch is None else _watch.tally()


def reset() -> None:
    """Begins to count anew, as a child of fork() has to."""
    if _watch is not None:
        kept = _Watch(_watch.verify, _watch.verbose)
        for name in ("accelerated", "left", "runs", "unrecognised"):
            setattr(_watch, name, getattr(kept, name))
        # their layers are met again, and counted from there
        for name in ("seen", "own"):
            getattr(_watch, name).clear()
        _watch.compared, _watch.worst = 0, 0.0


def on_first_layer(run: Callable[[], None]) -> None:
    """Calls a function when the first KAN layer is met."""
    if _watch is not None:
        _watch.on_first = run


def summary() -> str:
    """How many KAN layers were accelerated, how often they ran and by what, which were left alone
    and why, and which look like KANs and are not known."""
    if envs.DISABLE:
        return "kan_fast: KAN_FAST_DISABLE is set, nothing was accelerated"
    found = tally()
    return "kan_fast: not installed" if found is None else found.text()


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
