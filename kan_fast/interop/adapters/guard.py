"""The guard that every call of an accelerated layer passes.

A layer runs a kernel while everything that its plain forward would use is what it was when the
layer was recognised. An adapter says what that is; `Witness` keeps it, and compares it at every
call. docs/contract.md has the promise in full.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import Any
from weakref import WeakValueDictionary

from torch import nn

from kan_fast.interop.adapters.base import Adapter, Names
from kan_fast.interop.runs import Runs
from kan_fast.torch_internals import constant_when_traced

#: set on accelerated instances; holds a `Verdict`, or in copies the kind of the adapter
FLAG = "_kan_fast"
#: a mark: this copy is being looked at, and runs its own code whoever watches
CHECKED = "being checked"
#: a mark: the layer that this one was copied from was not recognised
REFUSED = "not recognised"
#: what every plain forward uses of its class
_ALWAYS = ("forward", "__call__", "__getattr__", "__getattribute__")

_count = itertools.count()
_verdicts: WeakValueDictionary[str, Verdict] = WeakValueDictionary()


class Witness:
    """What modules of one class were: the class, the methods there, and settings of the instances.

    Values of tensors are no part of it; they are read anew at every call.

    Args:
        modules: as they are now, with names; all have the same overrides.
        methods: names of methods and properties that their plain forward uses.
        settings: attributes, no tensors, that it reads.
    """

    __slots__ = ("cls", "of_class", "found", "absent", "of_instance", "set")

    def __init__(self, modules: dict[str, nn.Module], methods: Names, settings: Names) -> None:
        first = next(iter(modules.values()))
        self.cls = type(first)
        on_class = [n for n in (*_ALWAYS, *methods, *settings) if hasattr(self.cls, n)]
        self.of_class = attrgetter(*on_class)
        self.found = self.of_class(self.cls)
        # what python finds in an instance before it looks at the class
        names = ("forward", *methods, *settings)
        keys = [n for n in names if n in first.__dict__]
        self.absent = tuple(n for n in names if n not in keys)
        self.of_instance = itemgetter(*keys) if keys else _nothing
        self.set = [(name, self.of_instance(m.__dict__)) for name, m in modules.items()]

    def holds(self, modules: Mapping[str, Any]) -> bool:
        """Whether modules, the same or some in their place, are what these were."""
        # written out, since every call of a layer asks
        cls, absent, of_instance = self.cls, self.absent, self.of_instance
        try:
            if self.of_class(cls) != self.found:
                return False
            for name, noted in self.set:
                module = modules[name]
                own = module.__dict__
                if type(module) is not cls or of_instance(own) != noted:
                    return False
                for override in absent:
                    if override in own:
                        return False
        except Exception:  # a setting or a module that is gone, or that is now a tensor
            return False
        return True


def _nothing(own: dict) -> None:
    """Of an instance without settings and overrides."""


class Verdict:
    """Whether a layer runs a kernel, for as long as its witnesses hold.

    It stays with its module under `FLAG`. In a copy or a pickle it becomes the kind of its adapter,
    a string that any process can load, and the layer is recognised again when it is called.

    Args:
        adapter: of the layer.
        module: as it is now.
        reason: why it runs its own code; None where a kernel takes its place.
        runs: counts to go on with.
    """

    __slots__ = (
        "adapter", "reason", "runs", "seen", "name", "_module", "_own", "_inside", "_form",
        "__weakref__",
    )  # fmt: skip

    def __init__(
        self, adapter: Adapter, module: nn.Module, reason: str | None, runs: Runs | None = None
    ) -> None:
        self.adapter = adapter
        self.reason = reason
        #: of this verdict and no other, by which a compiler may ask for it
        self.name = f"verdict {next(_count)}"
        _verdicts[self.name] = self
        self._module = weakref.ref(module)
        self.runs = Runs() if runs is None else runs
        #: kinds of unusual inputs that the plain code has taken
        self.seen: set[tuple[int, bool]] = set()
        self._own = Witness({"": module}, adapter.methods, adapter.settings)
        self._form = adapter.form(module)
        try:
            self._inside = list(_inside(adapter, module))
        except Exception:  # of a layer in pieces, which was refused for that
            self._inside = []

    def holds(self, module: nn.Module) -> bool:
        """Whether the module is still the one that was judged."""
        if not self._own.holds({"": module}) or self.adapter.form(module) != self._form:
            return False
        for path, witness in self._inside:
            at: Any = module
            for name in path:
                at = at._modules.get(name)
                if at is None:
                    return False
            if not witness.holds(at._modules):
                return False
        return True

    @property
    def in_copies(self) -> str:
        """The mark of copies and pickles."""
        return self.adapter.kind if self.reason is None else REFUSED

    def __deepcopy__(self, memo: dict) -> str:
        return self.in_copies

    def __reduce__(self) -> tuple:
        return str, (self.in_copies,)


def _inside(adapter: Adapter, module: nn.Module) -> Iterator[tuple[Names, Witness]]:
    """What the submodules were that a plain forward uses, those of one class in one place together,
    with the names that lead to that place."""
    places: dict[tuple, dict[str, nn.Module]] = {}
    for path, found, methods, settings in adapter.inside(module):
        own = tuple(n for n in ("forward", *methods, *settings) if n in found.__dict__)
        place = path[:-1], methods, settings, type(found), own
        places.setdefault(place, {})[path[-1]] = found
    for (path, methods, settings, *_), modules in places.items():
        yield path, Witness(modules, methods, settings)


@constant_when_traced
def still_holds(name: str) -> bool:
    """Whether the verdict of that name holds, for a compiler that cannot follow what a witness
    does; of torch 2.9 it takes names, and no modules, as arguments of what it does not follow."""
    verdict = _verdicts.get(name)
    module = None if verdict is None else verdict._module()
    return module is not None and verdict.holds(module)
