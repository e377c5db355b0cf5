"""pykan's layers and models in the words of kan_fast.

Interface and semantics: pykan 0.2.8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kan_fast.errors import ConversionError
from kan_fast.interop.adapters.pykan import grid as pykan_grid
from kan_fast.interop.adapters.pykan import layer as pykan_layer
from kan_fast.interop.adapters.pykan import model as pykan
from kan_fast.layers.activations import known_activation
from kan_fast.layers.edges import Edges, Splines


def as_they_are(layer: Any) -> Splines:
    """The tensors of a layer, whatever its knots; where knots coincide, pykan's functions are not
    the splines of those tensors."""
    activation = known_activation(layer.base_fun)
    return Splines(layer.grid, *pykan_layer.weights(layer), layer.k, activation)


def of_layer(layer: Any) -> Splines:
    """A layer.

    Raises:
        ConversionError: knots coincide.
    """
    if not pykan_grid.regular(layer.grid):
        raise ConversionError(
            "convert: knots of a pykan layer coincide, and its functions are not the usual "
            "splines there; move them apart or update its grid with other data"
        )
    return as_they_are(layer)


def of_model(model: Any) -> list[Splines]:
    """The layers of a model, its scales of nodes folded in.

    Raises:
        ConversionError: what splines do not say: products, symbols, biases of nodes, inputs that
            are left out; coinciding knots.
    """
    if any(products for _, products in model.width):
        raise ConversionError(
            "convert: the pykan model has multiplication nodes, which other formats do not have"
        )
    if any(bool(layer.mask.any()) for layer in model.symbolic_fun):
        raise ConversionError(
            "convert: the pykan model has symbolic edges, which other formats do not have; call "
            "model.unfix_symbolic_all() first if their splines are to be used"
        )
    if model.input_id.tolist() != list(range(model.width_in[0])):
        raise ConversionError(
            f"convert: the pykan model uses inputs {model.input_id.tolist()} alone, and other "
            "formats use all; give its first layer those inputs yourself"
        )
    found = []
    for n, layer in enumerate(model.act_fun):
        if bool(model.subnode_bias[n].any()) or bool(model.node_bias[n].any()):
            raise ConversionError(
                f"convert: layer {n} of the pykan model has node biases, which other formats do "
                "not have"
            )
        splines = of_layer(layer)
        scale = (model.node_scale[n] * model.subnode_scale[n]).unsqueeze(1)
        found.append(
            replace(
                splines,
                spline_scaler=splines.spline_scaler * scale,
                base_weight=splines.base_weight * scale,
                # what no kernel knows stays the callable that it is
                activation=pykan.activation_of(layer) or splines.activation,
            )
        )
    return found


def edges_and_inputs(model: Any, x: Tensor) -> list[tuple[Edges, Tensor]]:
    """The edges of every layer of a model and the layer's input, where the model's is x.

    Raises:
        ValueError: products or symbols.
    """
    if any(products for _, products in model.width):
        raise ValueError("plot: pykan models with products are drawn by their own model.plot()")
    if any(bool(layer.mask.any()) for layer in model.symbolic_fun):
        raise ValueError("plot: pykan models with symbols are drawn by their own model.plot()")
    with torch.no_grad():
        model(x)
    pairs = zip(model.act_fun, model.acts, strict=False)
    return [(as_they_are(layer).edges(), inputs) for layer, inputs in pairs]
