"""The MLPs that a KAN is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def kan_parameters(widths: Sequence[int], grid_size: int, spline_order: int) -> int:
    """P = sum over layers of in * out * (grid_size + spline_order + 1)."""
    return sum(i * o * (grid_size + spline_order + 1) for i, o in pairwise(widths))


def same_parameter_widths(widths: Sequence[int], grid_size: int, spline_order: int) -> list[int]:
    """Widths of the MLP with as many parameters as a KAN of these `widths`.

    One hidden layer of h = P / (i + o + 1); for KANs of two or more layers where that exceeds four
    times the widest layer, two equal hidden layers with h^2 + (i + o + 2) h + o = P.
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
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])
