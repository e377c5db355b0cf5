"""Models that are measured: rows, widths and grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Shape:
    """Rows, widths and grid of a stack of layers; cubic unless told."""

    rows: int
    widths: tuple[int, ...]
    grid_size: int
    spline_order: int = 3

    @property
    def floor(self) -> float:
        """The share of the basis terms of an input that are not zero."""
        return (self.spline_order + 2) / (self.grid_size + self.spline_order + 1)

    def layers(self) -> list[Shape]:
        """One shape for each layer of the stack."""
        return [replace(self, widths=pair) for pair in pairwise(self.widths)]

    def inputs(self) -> torch.Tensor:
        """`[rows, widths[0]]`, uniform in 0.95 of the grid range; the same for a seed."""
        return (torch.rand(self.rows, self.widths[0]) * 2 - 1) * 0.95

    def __str__(self) -> str:
        return f"{self.rows} {'-'.join(map(str, self.widths))} G{self.grid_size}"


#: the twelve shapes that decide
CPU = (
    Shape(1000, (2, 5, 1), 5),
    Shape(2601, (2, 10, 1), 5),
    Shape(1024, (32, 64, 1), 5),
    Shape(256, (784, 64, 10), 5),
    Shape(4096, (128, 128), 5),
    Shape(1024, (512, 512), 5),
    Shape(1024, (64, 64), 20),
    Shape(4096, (32, 32), 100),
    Shape(100, (1000, 1000, 1), 5),
    Shape(5888, (64, 64, 64, 64, 64), 8),
    Shape(2048, (160, 160, 160, 160), 5),
    Shape(65536, (32, 8, 8), 3),
)
