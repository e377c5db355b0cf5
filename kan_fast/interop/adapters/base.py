"""What an adapter is, and the guard that every call of an accelerated layer passes.

A layer runs a kernel while everything that its plain forward would use is what it was when the
layer was recognised. An adapter says what that is; `Witness` keeps it, and compares it at every
call. docs/contract.md has the promise in full.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from kan_fast.interop.runs import Runs
from kan_fast.torch_internals import constant_when_traced, has_tangent

#: set on accelerated instances; holds a `Verdict`, or in copies the kind of the adapter
FLAG = "_kan_fast"
#: a mark: this copy is being looked at, and runs its own code whoever watches
CHECKED = "being checked"
#: a mark: the layer that this one was copied from was not recognised
REFUSED = "not recognised"
#: what every plain forward uses of its class
_ALWAYS = ("forward", "__call__", "__getattr__", "__getattribute__")
#: tensors that are nothing but tensors
_PLAIN_TENSORS = frozenset((Tensor, nn.Parameter))
#: in place of an argument's value: whatever it is
ANY: Any = object()
Names = tuple[str, ...]
#: of a submodule: the names that lead to it, itself, and which methods and settings are used
Uses = tuple[Names, nn.Module, Names, Names]


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
                for name in absent:
                    if name in own:
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


class Adapter:
    """A drop-in for the layers of one library; a new one is a file here and a line in `__init__`.

    The class attributes say what a plain forward uses, beside tensors:
    """

    #: name of the library
    kind = ""
    #: methods and properties that it calls
    methods: tuple[str, ...] = ()
    #: attributes, no tensors, that it reads
    settings: tuple[str, ...] = ()
    #: parameters, buffers and submodules that it reads
    tensors: tuple[str, ...] = ()
    #: further arguments of its forward, with the values at which a kernel does the same, or ANY
    arguments: dict[str, Any] = {}

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        """Whether instances may be such layers; they tell when they are called."""
        raise NotImplementedError

    def is_candidate(self, module: nn.Module) -> bool:
        """Whether the module has the attributes of such a layer."""
        raise NotImplementedError

    def why_not(self, module: nn.Module) -> str | None:
        """Why a candidate is left alone, as a sentence; None where a kernel may take its place.

        Asked when a layer is met, and again when anything that its plain forward uses has changed.
        """
        raise NotImplementedError

    def refuses(self, module: nn.Module) -> str | None:
        """`why_not`, and what no adapter takes."""
        cls = type(module)
        for name in ("__call__", "__getattr__", "__getattribute__"):
            if getattr(cls, name) != getattr(nn.Module, name):
                return f"its class has a {name} of its own"
        for name in self.tensors:
            if hasattr(cls, name):
                return f"its class has a {name} of its own"
        if "parametrizations" in module._modules:
            return "its tensors are parametrised"
        for name in ("forward", *self.methods):
            if name in module.__dict__:
                return f"this instance has a {name} of its own"
        return self.why_not(module)

    def describe(self, module: nn.Module) -> str:
        """Its size, for reports."""
        raise NotImplementedError

    def inside(self, module: nn.Module) -> Iterator[Uses]:
        """Submodules of classes that torch does not have, which the plain forward uses."""
        yield from ()

    def form(self, module: Any) -> Any:
        """Which optional parts the layer has, as something to compare."""
        return None

    def replacements(self, cls: type[nn.Module]) -> dict[str, Callable | None]:
        """Other methods of a class that are replaced on accelerated layers: `run(module, original,
        *args)`; None for one that only returns a model, which is then accelerated as well."""
        return {}

    def prepare(self, module: Any) -> tuple | str:
        """What `run` needs of the layer, a weight and its degree first; or what keeps it from a
        kernel for now, whatever the input.

        Asked at every call. Reasons are a grid that is trained, shapes that do not fit, submodules
        of torch's own classes that are watched or no longer what they were.
        """
        raise NotImplementedError

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Any]) -> Any:
        """The layer through our kernels; an exception makes the call one of the plain code, which
        knows better what to say.

        Args:
            ready: what `prepare` returned.
            own: the call of the plain forward.
        """
        raise NotImplementedError

    def traced(self, module: Any, x: Tensor) -> Tensor | None:
        """The layer in a graph of torch.compile; None where the compiler takes the plain code."""
        return None


def tensors_of(module: nn.Module, names: Names) -> list[Any]:
    """Attributes that are parameters, buffers or submodules, each None where there is none; in a
    tenth of the time that nn.Module takes to look them up."""
    own = module.__dict__
    places = (own, own["_parameters"], own["_buffers"], own["_modules"])
    found = []
    for name in names:
        for place in places:
            if name in place:
                found.append(place[name])
                break
        else:
            found.append(getattr(module, name, None))
    return found


def has(module: nn.Module, name: str) -> bool:
    """hasattr, without looking at a value: reading a parametrised tensor may change it."""
    own = module.__dict__
    places = (own, own["_parameters"], own["_buffers"], own["_modules"])
    return any(name in place for place in places) or hasattr(type(module), name)


def are_plain(*tensors: Any) -> bool:
    """Whether they are torch's own kind of tensor and no subclasses, which may do anything."""
    return _PLAIN_TENSORS.issuperset(map(type, tensors))


def is_trained(constant: Tensor) -> bool:
    """Whether somebody wants derivatives with respect to a grid or centres."""
    return constant.requires_grad or has_tangent(constant)


def forward_keeps(x: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Input and knots for a forward that may have a backward.

    A plain spline layer keeps values of its basis and neither knots nor the batch, so that an edit
    of the grid between forward and backward, or a batch whose memory the next one takes, changes
    nothing and is no error. Kernels read both again in the backward: copies of their own. What is
    inside of a graph already is guarded by autograd.
    """
    if not torch.is_grad_enabled():
        return x, knots
    if x.grad_fn is None and not x.requires_grad:
        x = x.clone()
    return x, knots.clone()
