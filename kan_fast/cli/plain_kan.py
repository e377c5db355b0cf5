"""A KAN as people have it today: plain PyTorch, in the style of efficient-kan.

It stands for a user's own code in the demo; nothing in the package runs on it. Formulas:
docs/math.md, eq. 2 and 4.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainKANLinear(nn.Module):
    """`[rows, in_features]` to `[rows, out_features]`; state as in `kan_fast.KANLinear`."""

    def __init__(
        self, in_features: int, out_features: int, grid_size: int = 5, spline_order: int = 3
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        steps = torch.arange(-spline_order, grid_size + spline_order + 1)
        self.register_buffer("grid", (steps * (2 / grid_size) - 1).repeat(in_features, 1))
        edges = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(edges))
        self.spline_weight = nn.Parameter(torch.randn(*edges, grid_size + spline_order) * 0.02)
        self.spline_scaler = nn.Parameter(torch.empty(edges))
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))
        self.base_activation = nn.SiLU()

    def b_splines(self, x: Tensor) -> Tensor:
        t = self.grid
        x = x.unsqueeze(-1)
        basis = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for m in range(1, self.spline_order + 1):
            first, last = t[:, : -m - 1], t[:, m + 1 :]
            up = (x - first) / (t[:, m:-1] - first)
            down = (last - x) / (last - t[:, 1:-m])
            basis = up * basis[..., :-1] + down * basis[..., 1:]
        return basis

    def forward(self, x: Tensor) -> Tensor:
        weight = self.spline_weight * self.spline_scaler.unsqueeze(-1)
        base = F.linear(self.base_activation(x), self.base_weight)
        return base + F.linear(self.b_splines(x).flatten(1), weight.flatten(1))
