"""What an adapter is: all that kan_fast has to be told about the layers of one library.

`guard.py` keeps what an adapter says that a plain forward uses, and compares it at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.errors import ConversionError
from kan_fast.layers.edges import Edges, Splines
from kan_fast.layers.network import stacked
from kan_fast.layers.spline import KANLinear
from kan_fast.torch_internals import has_tangent

#: tensors that are nothing but tensors
_PLAIN_TENSORS = frozenset((Tensor, nn.Parameter))
#: in place of an argument's value: whatever it is
ANY: Any = object()
Names = tuple[str, ...]
#: of a submodule: the names that lead to it, itself, and which methods and settings are used
Uses = tuple[Names, nn.Module, Names, Names]


class Adapter:
    """All that kan_fast is told about the layers of one library: how to know them, when and how a
    kernel takes their place, and what their functions are.

    A new one is a file here and a line in `__init__`. The class attributes say what a plain forward
    uses, beside tensors:
    """

    #: name of the library
    kind = ""
    #: methods and properties that it calls
    methods: tuple[str, ...] = ()
    #: attributes, no tensors, that it reads
    settings: tuple[str, ...] = ()
    #: parameters, buffers and submodules that it reads
    tensors: tuple[str, ...] = ()
    #: whether all functions of its basis are evaluated, for which some backends have no kernels
    is_full = False
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

    def edges(self, module: Any) -> Edges | None:
        """The learned functions of the layer's edges, for plots and weights of edges; None where it
        has none by itself, as a model of several layers."""
        return None

    def layers(self, model: Any, x: Tensor) -> list[tuple[Edges, Tensor]] | None:
        """Of a model of several layers: the edges of each and its input, for an input of the model;
        None where they are found by their calls.

        Raises:
            ValueError: it is more than edges.
        """
        return None

    def splines(self, module: Any) -> Splines | list[Splines]:
        """The layer in the words of kan_fast, or the layers of a model in their order.

        Raises:
            ConversionError: it has no splines, or is more than splines.
        """
        raise no_splines(module)

    def converted(self, module: Any) -> nn.Module:
        """The same function as a module of kan_fast, with copies of the parameters.

        Raises:
            ConversionError: what kan_fast's layers do not have.
        """
        found = self.splines(module)
        if isinstance(found, Splines):
            return found.module(KANLinear)
        return stacked([splines.module(KANLinear) for splines in found])


def no_splines(module: nn.Module) -> ConversionError:
    """What a conversion says of a module that is no layer of splines."""
    return ConversionError(
        "convert: expected a spline layer of kan_fast, efficient-kan or pykan, got "
        f"{type(module).__name__}"
    )


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
