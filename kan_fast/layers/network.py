"""`KAN`: a stack of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kan_fast.errors import ShapeError
from kan_fast.layers.spline import KANLinear
from kan_fast.ops import network as stack


class KAN(nn.Module):
    """A stack of `KANLinear` layers.

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
            y = stack.run(self.layers, x)
            if y is not None:
                return y
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
