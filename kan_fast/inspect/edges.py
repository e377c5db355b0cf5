"""The learned functions of a layer's edges, and the same as SciPy splines."""

from __future__ import annotations

from typing import Any

from torch import nn

from kan_fast.interop.adapters import describer_of
from kan_fast.layers.edges import Edges


def edges_of(module: nn.Module) -> Edges | None:
    """The edges of a KAN layer of any library that `accelerate` knows, or None.

    Of fast-kan's layers these are the Gaussians, functions of the normalised input; the base branch
    is a function of the raw input and no part of them.
    """
    adapter = describer_of(module)
    return None if adapter is None else adapter.edges(module)


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
