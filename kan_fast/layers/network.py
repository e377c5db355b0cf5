"""`KAN`: a network of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kan_fast.backends import BACKENDS
from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import Layer, as_layer
from kan_fast.errors import ShapeError
from kan_fast.layers.activations import known_activation
from kan_fast.layers.hooks import has_global_hooks, has_hooks
from kan_fast.layers.spline import KANLinear
from kan_fast.ops import network
from kan_fast.ops.checks import fits
from kan_fast.ops.plan import basis_of, plain, plan_for


class KAN(nn.Module):
    """A network of `KANLinear` layers, one after the other.

    Args:
        layers_hidden: widths, input first; two at least.
        grid_size, spline_order, scale_noise, scale_base, scale_spline, base_activation, grid_eps,
        grid_range, device, dtype: as in `KANLinear`.

    Source: efficient-kan 7b6ce1c (interface; parameters are `layers.{l}.*`).
    """

    def __init__(
        self,
        layers_hidden: Sequence[int],
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        base_activation: Callable[[], Callable[[Tensor], Tensor]] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if len(layers_hidden) < 2:
            raise ShapeError(
                f"KAN: layers_hidden must hold two widths at least, got {list(layers_hidden)}"
            )
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.layers = nn.ModuleList(
            KANLinear(
                in_features,
                out_features,
                grid_size=grid_size,
                spline_order=spline_order,
                scale_noise=scale_noise,
                scale_base=scale_base,
                scale_spline=scale_spline,
                base_activation=base_activation,
                grid_eps=grid_eps,
                grid_range=grid_range,
                device=device,
                dtype=dtype,
            )
            for in_features, out_features in zip(layers_hidden, layers_hidden[1:], strict=False)
        )

    def forward(self, x: Tensor, update_grid: bool = False) -> Tensor:
        """`[..., layers_hidden[0]]` to `[..., layers_hidden[-1]]`.

        Args:
            update_grid: move each layer's grid to its input first; see `KANLinear.update_grid`.
        """
        if not update_grid:
            found = _as_one(self.layers, x)
            if found is not None:
                return network.run(x, *found)
        for layer in self.layers:
            if update_grid:
                layer.update_grid(x)
            x = layer(x)
        return x

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """The sum of the layers' `regularization_loss`."""
        return sum(
            layer.regularization_loss(regularize_activation, regularize_entropy)
            for layer in self.layers
        )

    def refine(self, grid_size: int) -> None:
        """Gives every layer a grid of `grid_size` intervals; see `KANLinear.refine`."""
        for layer in self.layers:
            layer.refine(grid_size)
        self.grid_size = grid_size

    def activation_regularization_loss(
        self,
        x: Tensor,
        regularize_activation: float = 1.0,
        regularize_entropy: float = 1.0,
        size: str = "l1",
    ) -> Tensor:
        """The sum of the layers' `activation_regularization_loss`, each on its own input.

        Args:
            x: `[..., layers_hidden[0]]`, the input of the model.
        """
        total = x.new_zeros(())
        for layer in self.layers:
            total = total + layer.activation_regularization_loss(
                x, regularize_activation, regularize_entropy, size
            )
            x = layer(x)
        return total


def _as_one(layers: Sequence[nn.Module], x: Tensor) -> tuple[list[Layer], Kernels] | None:
    """The layers and the kernels with which they are one node of autograd, or None where something
    needs them one by one.

    Hooks, subclasses, parametrised weights, activations that are not the kernels', other backends
    and torch's transforms do.
    """
    if x.dim() != 2 or x.dtype not in (torch.float32, torch.float64):
        return None
    if not plain(x.device.type) or has_global_hooks():
        return None
    found: list[Layer] = []
    width, dtype, device = x.shape[1], x.dtype, x.device
    highest = 0
    for layer in layers:
        own = layer._parameters
        if type(layer) is not KANLinear or has_hooks(layer) or "spline_weight" not in own:
            return None
        activation = known_activation(
            layer._modules.get("base_activation") or layer.base_activation
        )
        if not isinstance(activation, str):
            return None
        knots, weight = layer._buffers["grid"], own["spline_weight"]
        scaler, base = own.get("spline_scaler"), own.get("base_weight")
        order = layer.spline_order
        if not fits(width, dtype, device, knots, weight, scaler, base, order):
            return None
        found.append(as_layer((knots, weight, scaler, base, basis_of(order, activation))))
        width = weight.shape[0]
        highest = max(highest, order)
    kernels = BACKENDS[plan_for(x, found[0].weight, highest).backend].kernels(found[0].weight)
    return None if kernels is None else (found, kernels)


def stacked(layers: Sequence[nn.Module]) -> nn.Module:
    """The layers as a `KAN` where all are splines of one grid size, order and activation; else as
    an `nn.Sequential`."""
    kinds = {
        (layer.grid_size, layer.spline_order, type(layer.base_activation))
        for layer in layers
        if isinstance(layer, KANLinear)
    }
    if len(kinds) != 1 or not all(isinstance(layer, KANLinear) for layer in layers):
        return nn.Sequential(*layers)
    ((grid_size, order, _),) = kinds
    widths = [layers[0].in_features, *[layer.out_features for layer in layers]]
    # empty ones, whose places the given layers take
    model = KAN(widths, grid_size, order, device="meta")
    model.layers = nn.ModuleList(layers)
    return model
