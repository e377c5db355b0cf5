"""What a layer computes, as data: the functions of its edges, and the tensors of its splines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.layers.activations import known_activation, module_of


@dataclass(frozen=True)
class Edges:
    """phi_oi(x) = sum_f weight[o,i,f] functions(x)[..., i, f], in float64 on the CPU.

    Args:
        weight: `[out_features, in_features, functions]`.
        functions: takes `[rows, in_features]`, gives `[rows, in_features, functions]`.
        prepare: what of a layer's input the functions are of: a normalisation, or the identity.
        knots: of splines, `[in_features, num_knots]`; else None.
        spline_order: of splines.
    """

    weight: Tensor
    functions: Callable[[Tensor], Tensor]
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    knots: Tensor | None = None
    spline_order: int = 0

    def values(self, x: Tensor) -> Tensor:
        """`[rows, out_features, in_features]`: every edge at `[rows, in_features]`."""
        return torch.einsum("rif,oif->roi", self.functions(x.double().cpu()), self.weight)

    def spread(self, x: Tensor) -> Tensor:
        """`[out_features, in_features]`: standard deviation of every edge over the rows of x."""
        functions = self.weight.shape[-1] * max(1, self.weight.shape[1])
        count, first, second = x.shape[0], 0, 0
        for rows in x.double().cpu().split(max(1, 2**22 // functions)):
            phi = self.functions(rows)
            first = first + phi.sum(0) / count
            second = second + torch.einsum("rif,rig->ifg", phi, phi) / count
        centred = second - first.unsqueeze(-1) * first.unsqueeze(-2)
        variance = torch.einsum("oif,ifg,oig->oi", self.weight, centred, self.weight)
        return variance.clamp_min(0).sqrt()


@dataclass(frozen=True)
class Splines:
    """A spline layer in the words of kan_fast.

    y[..., o] = sum_i (base_weight[o,i] activation(x_i) + spline_scaler[o,i] sum_g spline_weight
    [o,i,g] B_g(x_i))

    Args:
        grid: `[in_features, num_knots]`.
        spline_weight: `[out_features, in_features, num_basis]`.
        spline_scaler: `[out_features, in_features]`; None for ones.
        base_weight: `[out_features, in_features]`; None for zeros.
        spline_order: degree of the pieces.
        activation: a name that the kernels know, or any function of tensors.
    """

    grid: Tensor
    spline_weight: Tensor
    spline_scaler: Tensor | None
    base_weight: Tensor | None
    spline_order: int
    activation: str | Callable[[Tensor], Tensor]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """in_features, out_features, grid_size."""
        out_features, in_features, num_basis = self.spline_weight.shape
        return in_features, out_features, num_basis - self.spline_order

    @property
    def base(self) -> Tensor:
        """`base_weight`, or zeros."""
        missing = self.base_weight is None
        return torch.zeros_like(self.spline_weight[..., 0]) if missing else self.base_weight

    def edges(self) -> Edges:
        """The functions of the edges, scales included: the splines, then the activation."""
        knots, act = _wide(self.grid), self.activation
        scaler = None if self.spline_scaler is None else _wide(self.spline_scaler)

        def functions(x: Tensor) -> Tensor:
            splines = reference.bspline_basis(x, knots, self.spline_order)
            value = reference.activation(act, x) if isinstance(act, str) else act(x)
            return torch.cat([splines, value.detach().unsqueeze(-1)], dim=-1)

        folded = reference.fold(_wide(self.spline_weight), scaler, _wide(self.base))
        return Edges(folded, functions, knots=knots, spline_order=self.spline_order)

    @torch.no_grad()
    def module(self, cls: type[nn.Module]) -> nn.Module:
        """A layer with copies of the tensors.

        Args:
            cls: `KANLinear`, or a class that takes its arguments and has its attributes.
        """
        in_features, out_features, grid_size = self.sizes
        layer: Any = cls(
            in_features, out_features, grid_size=grid_size, spline_order=self.spline_order,
            enable_standalone_scale_spline=self.spline_scaler is not None,
            base_activation=_factory(self.activation),
        )  # fmt: skip
        layer.to(self.spline_weight)
        layer.grid.copy_(self.grid)
        layer.spline_weight.copy_(self.spline_weight)
        layer.base_weight.copy_(self.base)
        if self.spline_scaler is not None:
            layer.spline_scaler.copy_(self.spline_scaler)
        return layer


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def _factory(activation: Any) -> Callable[[], Any]:
    """What a layer calls to get its base activation."""
    if isinstance(activation, str):
        return module_of(activation) or _Zero
    return lambda: activation


def _wide(t: Tensor) -> Tensor:
    return t.detach().double().cpu()


def scaler_of(layer: Any) -> Tensor | None:
    """`spline_scaler` of a layer whose attributes have efficient-kan's names, where it is used."""
    if getattr(layer, "enable_standalone_scale_spline", True):
        return getattr(layer, "spline_scaler", None)
    return None


def splines_of(layer: Any) -> Splines:
    """The splines of a layer whose attributes have efficient-kan's names, as ours have."""
    return Splines(
        layer.grid, layer.spline_weight, scaler_of(layer), layer.base_weight, layer.spline_order,
        known_activation(layer.base_activation),
    )  # fmt: skip


def gaussian_edges(layer: Any) -> Edges:
    """The Gaussians of a layer whose attributes have fast-kan's names, functions of the normalised
    input; the base branch is a function of the raw input and no part of them."""
    centers, width = _wide(layer.rbf.grid), layer.rbf.denominator
    weight = _wide(layer.spline_linear.weight)
    norm = getattr(layer, "layernorm", None)
    return Edges(
        weight.reshape(len(weight), weight.shape[1] // len(centers), len(centers)),
        lambda x: reference.gaussian_rbf_basis(x, centers, width),
        (lambda x: x) if norm is None else _normalised(norm),
    )


def _normalised(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = (None if t is None else _wide(t) for t in (norm.weight, norm.bias))
    return lambda x: F.layer_norm(x.double().cpu(), norm.normalized_shape, weight, bias, norm.eps)


def chebyshev_edges(weight: Tensor) -> Edges:
    """Chebyshev polynomials of tanh of the input; weight as in `ChebyshevKANLinear`."""
    weight = _wide(weight)
    return Edges(weight, lambda x: reference.chebyshev_basis(torch.tanh(x), weight.shape[-1]))
