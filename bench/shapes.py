"""The shapes that benches run."""

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

#: what published KAN code runs, as far as it fits a CPU
USERS = (
    Shape(3000, (4, 100, 100, 100, 1), 100),  # grid extension on special functions
    Shape(64, (784, 64, 10), 5),  # MNIST, small batches
    Shape(512, (784, 64, 10), 5),
    Shape(1024, (784, 10, 10, 10), 20),  # tabular comparisons
    Shape(224, (96, 64, 64, 96), 4),  # time series
    Shape(256, (4, 8, 2), 5),  # control policies
    Shape(196608, (32, 8, 8), 3),  # radiance fields
    Shape(8192, (128, 128, 128, 128), 5),  # segmentation
    Shape(1024, (192, 768, 192), 5),  # a small transformer's MLP
)

#: the wide layers that tensor cores decide
GPU_WIDE = tuple(Shape(4096, (n, n), g) for g in (5, 20) for n in (512, 1024))

#: what has a GPU for a reason, and what is launched there all the same
GPU = (
    *GPU_WIDE,
    Shape(65536, (64, 64), 5),
    Shape(1000, (2, 5, 1), 5),  # a first script with pykan
    Shape(3000, (4, 100, 100, 100, 1), 100),  # grid extension
    Shape(64, (784, 64, 10), 5),
    Shape(512, (784, 64, 10), 5),
    Shape(5888, (64, 64, 64, 64, 64), 8),  # a graph network
    Shape(196608, (32, 8, 8), 3),  # a radiance field
    Shape(2048, (160, 160, 160, 160), 5),  # segmentation
    Shape(28368, (192, 192, 192), 8),  # a vision transformer
    Shape(16384, (768, 3072, 768), 5),  # a language model
    Shape(4096, (64, 64), 64),
    Shape(4096, (32, 32), 100),
)
SUITES = {"cpu": CPU, "users": USERS, "gpu": GPU, "gpu-wide": GPU_WIDE}
