"""Layers as users vendor them, written here in our own words: same state, same function.

The basis is computed by a loop over functions with the recursion of the textbook, not by slices.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class VendoredKANLinear(nn.Module):
    """The old form: 2-D inputs only."""

    def __init__(
        self, in_features, out_features, grid_size=5, spline_order=3,
        enable_standalone_scale_spline=True, base_activation=nn.SiLU, grid_range=(-1, 1),
    ):  # fmt: skip
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        step = (grid_range[1] - grid_range[0]) / grid_size
        knots = torch.arange(-spline_order, grid_size + spline_order + 1) * step + grid_range[0]
        self.register_buffer("grid", knots.repeat(in_features, 1))
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
        self.spline_weight = nn.Parameter(
            torch.randn(out_features, in_features, grid_size + spline_order) * 0.1
        )
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.rand(out_features, in_features))
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        self.base_activation = base_activation()

    def b_splines(self, x):
        t = self.grid
        count = t.shape[1] - 1
        values = [((x >= t[:, j]) & (x < t[:, j + 1])).to(x.dtype) for j in range(count)]
        for m in range(1, self.spline_order + 1):
            values = [
                (x - t[:, j]) / (t[:, j + m] - t[:, j]) * values[j]
                + (t[:, j + m + 1] - x) / (t[:, j + m + 1] - t[:, j + 1]) * values[j + 1]
                for j in range(count - m)
            ]
        return torch.stack(values, dim=-1)

    @property
    def scaled_spline_weight(self):
        if self.enable_standalone_scale_spline:
            return self.spline_weight * self.spline_scaler.unsqueeze(-1)
        return self.spline_weight

    def forward(self, x):
        assert x.dim() == 2
        base = F.linear(self.base_activation(x), self.base_weight)
        weight = self.scaled_spline_weight.view(self.out_features, -1)
        spline = F.linear(self.b_splines(x).view(x.size(0), -1), weight)
        return base + spline


class ReshapeKANLinear(VendoredKANLinear):
    """Any leading dimensions, by reshape."""

    def forward(self, x):
        original_shape = x.shape
        x = x.reshape(-1, self.in_features)
        base = F.linear(self.base_activation(x), self.base_weight)
        weight = self.scaled_spline_weight.view(self.out_features, -1)
        y = base + F.linear(self.b_splines(x).flatten(1), weight)
        return y.reshape(*original_shape[:-1], self.out_features)


class ViewKANLinear(VendoredKANLinear):
    """Any leading dimensions, by view, with the cache clearing seen in the wild."""

    def forward(self, x):
        shape = x.size()
        x = x.contiguous().view(-1, self.in_features)
        base = F.linear(self.base_activation(x), self.base_weight)
        spline = torch.einsum("rig,oig->ro", self.b_splines(x), self.scaled_spline_weight)
        torch.cuda.empty_cache()
        y = base + spline
        return y.view(*shape[:-1], self.out_features)


class EditedClamp(VendoredKANLinear):
    """Computes something else outside the grid only."""

    def forward(self, x):
        low, high = self.grid[0, self.spline_order], self.grid[0, -1 - self.spline_order]
        return super().forward(torch.minimum(torch.maximum(x, low), high - 1e-6))


class EditedDropout(VendoredKANLinear):
    """Random while training."""

    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, self.training)


class EditedRecorder(VendoredKANLinear):
    """Equal numbers, but it writes state that somebody reads."""

    def forward(self, x):
        self.last_input = x
        return super().forward(x)


class EditedTuple(VendoredKANLinear):
    """Returns the regulariser beside the output."""

    def forward(self, x):
        return super().forward(x), self.spline_weight.abs().mean()


class EditedBias(VendoredKANLinear):
    """A bias that starts at zero: equal numbers today, different ones after a step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.bias = nn.Parameter(torch.zeros(self.out_features))

    def forward(self, x):
        return super().forward(x) + self.bias


VARIANTS = [VendoredKANLinear, ReshapeKANLinear, ViewKANLinear]
EDITED = [EditedClamp, EditedDropout, EditedRecorder, EditedTuple, EditedBias]
