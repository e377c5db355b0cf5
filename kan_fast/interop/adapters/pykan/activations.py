"""What pykan keeps of a forward, without the tensors of size `[rows, out_dim, in_dim]`.

Scales of edges come from the Gram matrix of the basis, exactly and differentiably. A forward keeps
copies of what they and the activations are made of; the first read of an attribute makes a list of
tensors of them, which the model has from then on.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.interop.adapters.pykan.curves import postspline_and_postacts
from kan_fast.ops.gram import edge_statistics
from kan_fast.spec import WindowedBasis

#: where a model keeps the record of its last forward
RECORD = "_kan_fast_record"


class LayerActivations:
    """One layer in one forward.

    It has copies of its own of all that somebody may write into before the attributes are read.
    Gradients flow through the copies to the parameters and to the input.

    Args:
        layer: pykan's KANLayer.
        x: `[rows, in_dim]`, its input.
        y: `[rows, out_dim]`, its output, the symbolic branch included, which nobody else has.
        activation: the kernels' name of its base function.
        affine: parameters of the symbolic branch; None where it is off.
        edges: `(out, in)` indices of the edges that the symbolic branch evaluates.
        symbolic: `[rows, edges]`, the values of those, their mask included.
        own: postacts and postspline of pykan's own code, where that ran the layer.
    """

    def __init__(
        self,
        layer: Any,
        x: Tensor,
        y: Tensor,
        activation: str,
        affine: Tensor | None = None,
        edges: tuple[Tensor, Tensor] | None = None,
        symbolic: Tensor | None = None,
        own: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        names = ("coef", "scale_sp", "scale_base", "mask")
        self._parameters = tuple(getattr(layer, name).clone() for name in names)
        self._knots = knots_of(layer).clone()
        self._x, self._y = x.clone(), y.detach()
        self._basis = WindowedBasis(layer.k, activation)
        self._affine = None if affine is None else affine.clone()
        self._edges, self._symbolic, self._own = edges, symbolic, own
        self._modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def __deepcopy__(self, memo: dict) -> LayerActivations:
        """The same values, without gradients: torch copies no tensor that has a history."""
        twin = copy.copy(self)
        for name, value in list(vars(twin).items()):
            if isinstance(value, Tensor):
                setattr(twin, name, value.detach())
        vars(twin).pop("_statistics", None)
        twin._parameters = tuple(p.detach() for p in self._parameters)
        twin._own = self._own and tuple(t.detach() for t in self._own)
        return twin

    @contextlib.contextmanager
    def as_in_forward(self) -> Iterator[None]:
        """The modes of the forward, whatever those of the reader."""
        inference, grad = self._modes
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast(self._x.device.type, enabled=False),
        ):
            yield

    def preacts(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the inputs of all edges."""
        return self._x.clone().unsqueeze(1).expand(-1, self._parameters[0].shape[1], -1)

    def postspline(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the splines, neither scaled nor masked."""
        if self._own is not None:
            return self._own[1].clone()
        return self._curves[0]

    def postacts(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the values of all edges."""
        found = self._curves[1] if self._own is None else self._own[0].clone()
        if self._symbolic is None:
            return found
        # the transpose has the edges first, where index_put can add to them
        return found.movedim(0, 2).index_put(self._edges, self._symbolic.t(), True).movedim(2, 0)

    @property
    def _curves(self) -> tuple[Tensor, Tensor]:
        layer = self._knots, self._basis.spline_order, self._parameters
        return postspline_and_postacts(self._x, self._basis.activation, *layer)

    @property
    def _folded(self) -> Tensor:
        """`[out_dim, in_dim, num_basis + 1]`: coefficients, scales and mask in one, base last."""
        coef, scale_sp, scale_base, mask = self._parameters
        spline = (scale_sp * mask).unsqueeze(-1) * coef
        return torch.cat([spline, (scale_base * mask).unsqueeze(-1)], dim=-1).transpose(0, 1)

    def node_scale(self) -> Tensor:
        """`[out_dim]`: standard deviation of the outputs."""
        return self._y.std(0)

    def edge_scale(self) -> Tensor:
        """`[out_dim, in_dim]`: standard deviation of every edge."""
        both = self._statistics[1]
        if self._affine is None:
            return both.clone()
        # the parameters of all edges are in pykan's graph
        return both + (self._affine * 0).sum(-1)

    def relative_edge_scale(self) -> Tensor:
        """`edge_scale` over the spread of the input, without gradient."""
        return (self._statistics[1] / self._statistics[2]).detach()

    def relative_spline_scale(self) -> Tensor:
        """The same of the numerical branch alone."""
        return self._statistics[0] / self._statistics[2]

    @functools.cached_property
    def _statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Deviations of the numerical branch and of both branches, and the spread of inputs."""
        if self._own is not None:
            numerical = both = self._own[0].std(0)
            if self._symbolic is not None:
                both = self.postacts().std(0)
        else:
            weight = self._folded
            numerical = both = self._deviation(weight)
            if self._symbolic is not None:
                both = self._with_symbolic(numerical, weight)
        return numerical, both, self._x.std(0) + 0.1

    def _deviation(self, weight: Tensor) -> Tensor:
        rows = self._x.shape[0]
        _, variance = edge_statistics(self._x, self._knots, weight, self._basis)
        variance = variance * (rows / (rows - 1) if rows > 1 else float("nan"))
        # the root's gradient at zero is zero, as torch.std has it
        zero = variance == 0
        root = torch.where(zero, 1, variance).sqrt()
        return torch.where(zero, 0, root).to(self._x.dtype)

    def _with_symbolic(self, numerical: Tensor, weight: Tensor) -> Tensor:
        values, (out, into) = self._symbolic, self._edges
        also = (weight[out, into] != 0).any(-1).nonzero().squeeze(1)
        if also.numel():
            at = into[also]
            features = reference.features(self._x[:, at], self._knots[at], self._basis)
            curves = torch.einsum("reg,eg->re", features, weight[out[also], at])
            values = values.index_add(1, also, curves)
        return numerical.index_put((out, into), values.std(0))


def knots_of(layer: Any) -> Tensor:
    """`[in_dim, num_knots]`, also of a layer that has one row of knots for all inputs."""
    knots, in_dim = layer.grid, layer.coef.shape[0]
    return knots.expand(in_dim, -1) if knots.shape[0] == 1 != in_dim else knots


def _without_gradient(read: Callable[[LayerActivations], Tensor]) -> Callable:
    return lambda layer: read(layer).detach()


#: pykan's attribute names, and what each holds of every layer
ATTRIBUTES: dict[str, Callable[[LayerActivations], Tensor]] = {
    "spline_preacts": _without_gradient(LayerActivations.preacts),
    "spline_postsplines": _without_gradient(LayerActivations.postspline),
    "spline_postacts": _without_gradient(LayerActivations.postacts),
    "subnode_actscale": LayerActivations.node_scale,
    "edge_actscale": LayerActivations.edge_scale,
    "acts_scale": LayerActivations.relative_edge_scale,
    "acts_scale_spline": LayerActivations.relative_spline_scale,
}


class Record:
    """One forward, and which of its attributes are still to be read."""

    def __init__(self, layers: list[LayerActivations]) -> None:
        self._layers = layers
        self.names = frozenset(ATTRIBUTES)
        #: shared by shallow copies, which have the same lists as in pykan
        self._read: dict[str, list[Tensor]] = {}

    def read(self, name: str) -> list[Tensor]:
        """What pykan's forward would have appended to a list of that name."""
        if name not in self._read:
            found = []
            for layer in self._layers:
                with layer.as_in_forward():
                    found.append(ATTRIBUTES[name](layer))
            self._read[name] = found
        return self._read[name]

    def without(self, name: str) -> Record:
        """The same but for one attribute."""
        twin = copy.copy(self)
        twin.names = self.names - {name}
        return twin

    def __deepcopy__(self, memo: dict) -> Record:
        twin = Record(copy.deepcopy(self._layers, memo))
        twin.names = self.names
        return twin


class _Recorded:
    """An attribute of a model that stands in the instance's dictionary from its first read on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, model: Any, cls: type) -> Any:
        name = self._name
        own = {} if model is None else model.__dict__
        if name not in own:
            record = own.get(RECORD)
            if record is None or name not in record.names:
                raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
            own[name] = record.read(name)
        return own[name]

    def __set__(self, model: Any, value: Any) -> None:
        self._forget(model)
        model.__dict__[self._name] = value

    def __delete__(self, model: Any) -> None:
        waited = self._forget(model)
        if self._name in model.__dict__:
            del model.__dict__[self._name]
        elif not waited:
            raise AttributeError(self._name)

    def _forget(self, model: Any) -> bool:
        """Takes the attribute out of a record that waits to be read, and the record away with the
        last one: pykan's own forward, which sets all of them first, so frees the last graph."""
        own, name = model.__dict__, self._name
        record = own.get(RECORD)
        if record is None or name not in record.names:
            return False
        if record.names == {name}:
            del own[RECORD]
        else:
            own[RECORD] = record.without(name)
        return True


def keep(model: nn.Module, layers: list[LayerActivations]) -> None:
    """Gives a model the attributes that pykan sets in a forward; no layers, as with `save_act` off,
    give empty lists."""
    own = model.__dict__
    for name in (RECORD, *ATTRIBUTES):
        own.pop(name, None)
    if not layers:
        own.update((name, []) for name in ATTRIBUTES)
    elif _can_wait(type(model)):
        own[RECORD] = Record(layers)
    else:
        record = Record(layers)
        own.update((name, record.read(name)) for name in ATTRIBUTES)


def _can_wait(cls: type) -> bool:
    """Whether reads of a class's instances come to `_Recorded`, which the class that defines
    `forward` is given here; not where a class has such an attribute of its own."""
    owner = next(c for c in cls.__mro__ if "forward" in c.__dict__)
    for name in ATTRIBUTES:
        where = next((c for c in cls.__mro__ if name in c.__dict__), None)
        if where is None:
            setattr(owner, name, _Recorded(name))
        elif type(where.__dict__[name]) is not _Recorded:
            return False
    return True
