"""`LazyKANLinear`: a layer that learns its number of inputs from the first one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from kan_fast.layers.spline import KANLinear


class LazyKANLinear(LazyModuleMixin, KANLinear):
    """A `KANLinear` whose `in_features` is the last dimension of the first input, as in
    `nn.LazyLinear`. From then on it is a `KANLinear`.

    Args:
        out_features: size of the last dimension of the output.
        options: those of `KANLinear` after `out_features`, by name.

    Run it once (a dry run) before an optimizer is made.
    """

    cls_to_become = KANLinear

    def __init__(
        self,
        out_features: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__(0, out_features, device=device, dtype=dtype, **options)
        like = {"device": device, "dtype": dtype}
        for name in list(self._parameters):
            self._parameters[name] = UninitializedParameter(**like)
        self._buffers["grid"] = UninitializedBuffer(**like)

    def reset_parameters(self) -> None:
        """Fresh weights, once there are any."""
        if not self.has_uninitialized_params() and self.in_features != 0:
            super().reset_parameters()

    @torch.no_grad()
    def initialize_parameters(self, x: Tensor) -> None:
        """Gives grid and weights their shapes and first values; a loaded checkpoint stays."""
        fresh = self.has_uninitialized_params()
        self.in_features = x.shape[-1]
        if not fresh:
            return
        edges = (self.out_features, self.in_features)
        self.grid.materialize((self.in_features, self.num_basis + self.spline_order + 1))
        for name, parameter in self._parameters.items():
            parameter.materialize((*edges, self.num_basis) if name == "spline_weight" else edges)
        self.reset_grid()
        self.reset_parameters()
