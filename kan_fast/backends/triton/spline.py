"""Launches of the Triton contractions: shapes, strides and tiles to `kernels/triton_jit`.

Every launch is on torch's current stream, waits for nothing and allocates from torch's pool, so a
graph can capture it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.base import Kernels
from kan_fast.backends.devices import on_device
from kan_fast.backends.layer import Gradients, Layer
from kan_fast.backends.triton import gather, tiles, tuned
from kan_fast.backends.triton import plan as plans
from kan_fast.backends.triton.arguments import LayerArguments, jit, strides


class TritonKernels(Kernels):
    """The contractions in one precision.

    Args:
        precision: "ieee" (float64), "tf32x3", "tf32", "bf16" or "fp16": of the products. Sums are
            in float32, and so are coordinates and the basis; in float64 for "ieee".
        out_dtype: of results with rows and outputs; that of x where None.
    """

    def __init__(self, precision: str, out_dtype: torch.dtype | None) -> None:
        self.precision = precision
        self.out_dtype = out_dtype
        self.sum_dtype = torch.float64 if precision == "ieee" else torch.float32

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        given = LayerArguments(layer)
        if y.numel() == 0 or given.in_features == 0:
            y.zero_()
            return
        plan = plans.out(self._shape(x, given), given.variant(v), derivative, tuned.generation())
        with on_device(x):
            if plan.constants is None:
                gather.out(x, v, given, plan.tile, plan.shared, y, self.sum_dtype)
                return
            jit().contract_out[plan.grid](
                *strides(x), *strides(v), given.knots, *given.parameters, y,
                x.shape[0], given.in_features, given.out_features, **plan.constants,
            )  # fmt: skip

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        given = LayerArguments(layer)
        if x.shape[0] == 0 or given.in_features == 0 or given.out_features == 0:
            for t in found:
                if t is not None:
                    t.zero_()
            return
        plan = plans.in_weight(
            self._shape(x, given), given.variant(v), derivatives,
            (found[0] is not None, found[1] is not None, found[2] is not None,
             found[3] is not None), tuned.generation(),
        )  # fmt: skip
        with on_device(x):
            self._backward(x, u, v, given, derivatives[0], plan, found)

    def _backward(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: LayerArguments,
        derivative_in: int,
        plan: plans.InWeightPlan,
        found: Gradients,
    ) -> None:
        z, grad_weight, grad_scaler, grad_base = found
        need_spline = grad_weight is not None or grad_scaler is not None
        need_base = grad_base is not None
        if plan.gathers:
            gather.contract_in(x, u, layer, derivative_in, z, self.sum_dtype)
            z = None
        if z is None and not need_spline and not need_base:
            return
        spline_sum, base_sum = grad_weight, grad_base
        if not plan.direct:
            parts = functools.partial(x.new_empty, dtype=self.sum_dtype)
            spline_sum = parts((plan.splits, *layer.weight.shape)) if need_spline else None
            base_sum = parts((plan.splits, *layer.weight.shape[:2])) if need_base else None
        kernels = jit()
        kernels.contract_in_weight[plan.grid](
            *strides(x), *strides(u), *strides(v), layer.knots, *layer.parameters,
            z, spline_sum, base_sum, x.shape[0], layer.in_features, layer.out_features,
            plan.rows_a_split, plan.splits, **plan.constants,
        )  # fmt: skip
        if plan.direct or not (need_spline or need_base):
            return
        kernels.unfold[plan.unfold_grid](
            spline_sum, base_sum, layer.weight, layer.scaler, grad_weight, grad_scaler, grad_base,
            layer.in_features * layer.out_features, plan.splits, **plan.unfold_constants,
        )  # fmt: skip

    def shape_of(self, x: Tensor, layer: Layer) -> tiles.Shape:
        """What the choice of a tile for this layer depends on."""
        return self._shape(x, LayerArguments(layer))

    def _shape(self, x: Tensor, layer: LayerArguments) -> tiles.Shape:
        return tiles.Shape(
            self.precision, x.shape[0], layer.in_features, layer.out_features, layer.num_basis,
            layer.order, machine.gpu(x.device),
        )  # fmt: skip
