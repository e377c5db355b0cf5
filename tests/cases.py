"""Layers and inputs that the tests share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.layer import Layer
from kan_fast.layers.grid import uniform_knots
from kan_fast.spec import WindowedBasis


def instruction_sets() -> list[str]:
    """The sets this CPU and build have; set_isa refuses the others."""
    if machine.facts().extension is None:
        return []
    extension = machine.extension()
    names = [n for n in extension.build_info()["instruction_sets"] if extension.set_isa(n)]
    extension.set_isa(machine.facts().extension)
    return names


@dataclass
class Case:
    """Random parameters of one layer, and inputs on both sides of the grid's ends."""

    x: Tensor
    knots: Tensor
    spline_weight: Tensor
    spline_scaler: Tensor | None
    base_weight: Tensor | None
    basis: WindowedBasis

    def parameters(self) -> tuple[Tensor | None, ...]:
        return self.spline_weight, self.spline_scaler, self.base_weight

    def layer(self) -> Layer:
        return Layer(self.knots, *self.parameters(), self.basis)

    def to(self, target: torch.dtype | str) -> Case:
        """In another dtype or on another device."""

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.detach().to(target)

        return Case(
            move(self.x), move(self.knots), *[move(t) for t in self.parameters()], self.basis
        )


def make_case(
    rows: int,
    in_features: int,
    out_features: int,
    grid_size: int = 5,
    spline_order: int = 3,
    activation: str = "silu",
    dtype: torch.dtype = torch.float32,
    knots: str = "uniform",
    scaler: bool = True,
    base: bool = True,
) -> Case:
    grid = uniform_knots(in_features, grid_size, spline_order, (-1, 1), dtype=dtype)
    if knots != "uniform":
        # quantile-like: every input its own spacing
        grid = torch.sort(grid + torch.rand_like(grid) * (1.5 / grid_size), dim=1).values
    if knots == "repeated":
        middle = grid.shape[1] // 2
        grid[:, middle] = grid[:, middle - 1]
    x = torch.rand(rows, in_features, dtype=dtype) * 3.4 - 1.7
    if rows > 4:
        # on knots, the first and last included
        x[0], x[1], x[2] = grid[:, 0], grid[:, -1], grid[:, grid.shape[1] // 2]
    edges = (out_features, in_features)
    return Case(
        x,
        grid,
        torch.randn(*edges, grid_size + spline_order, dtype=dtype),
        torch.randn(edges, dtype=dtype) if scaler else None,
        torch.randn(edges, dtype=dtype) if base else None,
        WindowedBasis(spline_order, activation),
    )


def strided(t: Tensor, how: str) -> Tensor:
    """The same values under other strides."""
    if how == "transposed":
        return t.t().contiguous().t()
    if how == "sliced":
        return torch.stack([t, t + 1], dim=-1)[..., 0]
    if how == "offset":
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)
    if how == "expanded":
        return t[:1].expand(t.shape)  # stride 0: the first row again and again
    return t
