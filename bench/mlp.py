"""The baselines that every figure is a ratio to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def kan_parameters(widths: Sequence[int], grid_size: int, spline_order: int) -> int:
    """P = sum over layers of I O (G + k + 1)."""
    return sum(
        i * o * (grid_size + spline_order + 1) for i, o in zip(widths, widths[1:], strict=False)
    )


def same_parameter_widths(widths: Sequence[int], grid_size: int, spline_order: int) -> list[int]:
    """Widths of the MLP with the parameters of a KAN.

    One hidden layer of h = P / (i + o + 1); for KANs of two or more layers where that exceeds four
    times the widest layer, two equal hidden layers: h^2 + (i + o + 2) h + o = P.
    """
    total = kan_parameters(widths, grid_size, spline_order)
    i, o = widths[0], widths[-1]
    h = max(1, round(total / (i + o + 1)))
    if len(widths) <= 2 or h <= 4 * max(widths):
        return [i, h, o]
    b = i + o + 2
    h = max(1, round((-b + (b * b + 4 * (total - o)) ** 0.5) / 2))
    return [i, h, h, o]


def mlp(widths: Sequence[int], activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers with the activation between them."""
    layers: list[nn.Module] = []
    for i, o in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])


def step(model: nn.Module, x: torch.Tensor) -> None:
    """A training step without the optimizer: gradients of the input and of every parameter."""
    for p in model.parameters():
        p.grad = None
    x.grad = None
    y = model(x)
    y.backward(torch.ones_like(y))
