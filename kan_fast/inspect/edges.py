"""The learned functions of a layer's edges: evaluated, weighed, and as SciPy splines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.interop.adapters import chebykan, efficient_kan, fast_kan
from kan_fast.interop.adapters.pykan import layer as pykan_layer
from kan_fast.layers.activations import known_activation
from kan_fast.layers.chebyshev import ChebyshevKANLinear
from kan_fast.layers.gaussian import GaussianKANLinear
from kan_fast.layers.spline import KANLinear


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


def _wide(t: Tensor) -> Tensor:
    return t.detach().double().cpu()


def _splines(
    knots: Tensor, weight: Tensor, scaler: Tensor | None, base: Tensor | None, order: int, act: Any
) -> Edges:
    knots, weight = _wide(knots), _wide(weight)
    base = torch.zeros_like(weight[..., 0]) if base is None else _wide(base)
    folded = reference.fold(weight, None if scaler is None else _wide(scaler), base)
    known = known_activation(act)

    def functions(x: Tensor) -> Tensor:
        splines = reference.bspline_basis(x, knots, order)
        value = reference.activation(known, x) if isinstance(known, str) else act(x)
        return torch.cat([splines, value.detach().unsqueeze(-1)], dim=-1)

    return Edges(folded, functions, knots=knots, spline_order=order)


def edges_of(module: nn.Module) -> Edges | None:
    """The edges of a KAN layer of any library that `accelerate` knows, or None.

    Of fast-kan's layers these are the Gaussians, functions of the normalised input; the base branch
    is a function of the raw input and no part of them.
    """
    m: Any = module
    if isinstance(m, KANLinear) or efficient_kan.is_candidate(m):
        standalone = getattr(m, "enable_standalone_scale_spline", True)
        scaler = getattr(m, "spline_scaler", None) if standalone else None
        return _splines(
            m.grid, m.spline_weight, scaler, m.base_weight, m.spline_order, m.base_activation
        )
    if pykan_layer.is_candidate(m):
        return _splines(m.grid, *pykan_layer.weights(m), m.k, m.base_fun)
    if isinstance(m, GaussianKANLinear) or fast_kan.is_candidate(m):
        centers = _wide(m.rbf.grid)
        weight = _wide(m.spline_linear.weight)
        norm = getattr(m, "layernorm", None)
        return Edges(
            weight.reshape(len(weight), weight.shape[1] // len(centers), len(centers)),
            lambda x: reference.gaussian_rbf_basis(x, centers, m.rbf.denominator),
            (lambda x: x) if norm is None else _normalised(norm),
        )
    if isinstance(m, ChebyshevKANLinear) or chebykan.is_candidate(m):
        ours = isinstance(m, ChebyshevKANLinear)
        weight = _wide(m.weight if ours else m.cheby_coeffs.transpose(0, 1))
        return Edges(weight, lambda x: reference.chebyshev_basis(torch.tanh(x), weight.shape[-1]))
    return None


def _normalised(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = (None if t is None else _wide(t) for t in (norm.weight, norm.bias))
    return lambda x: F.layer_norm(x.double().cpu(), norm.normalized_shape, weight, bias, norm.eps)


def coefficients(layer: nn.Module) -> Any:
    """The spline part of every edge as SciPy `BSpline`s, scales and masks included.

    Args:
        layer: a spline layer: `KANLinear`, efficient-kan's or pykan's KANLayer.

    Returns:
        numpy array of objects, `[out_features, in_features]`. They agree with the layer on the grid
        range (the knots without `spline_order` at each end); the base branch is not in them.

    Raises:
        TypeError: no spline layer. ImportError: SciPy is not installed.
    """
    found = edges_of(layer)
    if found is None or found.knots is None:
        raise TypeError(
            "coefficients: layer must be a spline layer (KANLinear, efficient-kan's KANLinear, "
            f"pykan's KANLayer), got {type(layer).__name__}"
        )
    try:
        import numpy
        from scipy.interpolate import BSpline
    except ImportError as error:
        raise ImportError("coefficients: needs SciPy; pip install scipy") from error
    out_features, in_features, _ = found.weight.shape
    splines = numpy.empty((out_features, in_features), dtype=object)
    for o in range(out_features):
        for i in range(in_features):
            weight = found.weight[o, i, :-1].numpy().copy()
            splines[o, i] = BSpline(found.knots[i].numpy().copy(), weight, found.spline_order)
    return splines
