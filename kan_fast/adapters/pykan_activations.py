"""What pykan keeps of a forward, without the tensors of size `[rows, out_dim, in_dim]`.

Scales of edges come from the Gram matrix of the basis, exactly and differentiably; activations are
computed when somebody reads them, from the layer as it was in the forward.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kan_fast import reference
from kan_fast.gram import edge_statistics
from kan_fast.no_derivative import without_derivative
from kan_fast.spec import BasisSpec


class LazyList(Sequence):
    """A list whose entries are computed when they are first read."""

    def __init__(self, compute: list[Callable[[], Tensor]]) -> None:
        self._compute = compute
        self._found: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._compute)

    def __getitem__(self, n: Any) -> Any:
        at = range(len(self))[n]
        if isinstance(at, range):
            return [self[m] for m in at]
        if at not in self._found:
            self._found[at] = self._compute[at]()
        return self._found[at]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"

    def __deepcopy__(self, memo: dict) -> LazyList:
        return self  # nobody writes into what it has

    def __reduce__(self) -> tuple:
        return list, ([t.detach() for t in self],)


_STALE = (
    "kan_fast: a statistic of activations was read after the parameters of its layer had changed, "
    "so it has no gradient; read it before the optimizer's step"
)


class LayerActivations:
    """One layer in one forward.

    Args:
        layer: pykan's KANLayer.
        x: `[rows, in_dim]`, its input.
        y: `[rows, out_dim]`, its output, the symbolic branch included.
        activation: the kernels' name of its base function.
        edges: `(out, in)` indices of the edges whose symbolic mask is not zero.
        symbolic: `[rows, edges]`, the values of those, their mask included.
    """

    def __init__(
        self,
        layer: Any,
        x: Tensor,
        y: Tensor,
        activation: str,
        edges: tuple[Tensor, Tensor] | None = None,
        symbolic: Tensor | None = None,
    ) -> None:
        self._live = (layer.coef, layer.scale_sp, layer.scale_base, layer.mask)
        # an optimizer or pykan itself writes into them later
        self._kept = tuple(p.detach().clone() for p in self._live)
        self._knots = layer.grid.detach().clone()
        self._basis = BasisSpec(layer.k, activation)
        self._x, self._y = x, y.detach()
        self._edges, self._symbolic = edges, symbolic
        self._grad_enabled = torch.is_grad_enabled()

    def preacts(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the inputs of all edges."""
        return self._x.unsqueeze(1).expand(-1, self._kept[0].shape[1], -1)

    def postspline(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the splines, neither scaled nor masked."""
        return self._curves(lambda parameters: parameters[0].transpose(0, 1))

    def postacts(self) -> Tensor:
        """`[rows, out_dim, in_dim]`: the values of all edges."""
        found = self._curves(_folded)
        if self._symbolic is None:
            return found
        # the transpose has the edges first, where index_put can add to them
        edges = (self._edges[0], self._edges[1])
        return found.movedim(0, 2).index_put(edges, self._symbolic.t(), True).movedim(2, 0)

    def _curves(self, weight_of: Callable[[tuple[Tensor, ...]], Tensor]) -> Tensor:
        with torch.set_grad_enabled(self._grad_enabled):
            weight = weight_of(self._live if self._same else self._kept)
            features = reference.features(self._x, self._knots, self._basis)
            found = torch.einsum("rig,oig->roi", features[..., : weight.shape[-1]], weight)
            return found if self._same else without_derivative(found, _STALE, *self._live)

    @property
    def _same(self) -> bool:
        """Whether the parameters are still those of the forward."""
        return all(
            p.shape == kept.shape and torch.equal(p, kept)
            for p, kept in zip(self._live, self._kept, strict=True)
        )

    def node_scale(self) -> Tensor:
        """`[out_dim]`: standard deviation of the outputs."""
        return self._y.std(0)

    def edge_scale(self) -> Tensor:
        """`[out_dim, in_dim]`: standard deviation of every edge, differentiable once."""
        return self._statistics[1]

    def relative_edge_scale(self) -> Tensor:
        """`edge_scale` over the spread of the input, without gradient."""
        return (self._statistics[1] / self._statistics[2]).detach()

    def relative_spline_scale(self) -> Tensor:
        """The same of the numerical branch alone, differentiable once."""
        return self._statistics[0] / self._statistics[2]

    @functools.cached_property
    def _statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Deviations of the numerical branch and of both branches, and the spread of inputs."""
        same = self._same
        with torch.set_grad_enabled(self._grad_enabled):
            weight = _folded(self._live if same else self._kept)
            numerical = self._deviation(weight)
            both = numerical if self._symbolic is None else self._with_symbolic(numerical, weight)
            found = (numerical, both, self._x.std(0) + 0.1)
            if same:
                return found
            return tuple(without_derivative(t, _STALE, *self._live) for t in found)

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
        also = (self._kept[3][into, out] != 0).nonzero().squeeze(1)
        if also.numel():
            at = into[also]
            features = reference.features(self._x[:, at], self._knots[at], self._basis)
            curves = torch.einsum("reg,eg->re", features, weight[out[also], at])
            values = values.index_add(1, also, curves)
        return numerical.index_put((out, into), values.std(0))


def _folded(parameters: tuple[Tensor, ...]) -> Tensor:
    """`[out_dim, in_dim, num_basis + 1]`: coefficients with scales and mask in them, base last."""
    coef, scale_sp, scale_base, mask = parameters
    spline = (scale_sp * mask).unsqueeze(-1) * coef
    return torch.cat([spline, (scale_base * mask).unsqueeze(-1)], dim=-1).transpose(0, 1)


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


def attributes(layers: list[LayerActivations]) -> dict[str, LazyList]:
    """The attributes that pykan sets in a forward with `save_act` on."""
    return {
        name: LazyList([functools.partial(read, layer) for layer in layers])
        for name, read in ATTRIBUTES.items()
    }
