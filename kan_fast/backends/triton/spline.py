"""Launches of the Triton contractions: shapes, strides and tiles to `kernels/triton_jit`.

Every launch is on torch's current stream, waits for nothing and allocates from torch's pool, so a
graph can capture it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain as batched
from kan_fast.backends.devices import on_device
from kan_fast.backends.triton import gather as triton_gather
from kan_fast.backends.triton import plan as triton_plan
from kan_fast.backends.triton import tiles, tuned
from kan_fast.backends.triton.arguments import Layer, jit, strides
from kan_fast.errors import check_derivative
from kan_fast.spec import BasisSpec


class TritonKernels:
    """The contractions in one precision (`kan_fast.backends.base.Kernels`).

    Args:
        precision: "ieee" (float64), "tf32x3", "tf32", "bf16" or "fp16": of the products. Sums are
            in float32, and so are coordinates and the basis; in float64 for "ieee".
        out_dtype: of results with rows and outputs; that of x where None.
    """

    def __init__(self, precision: str, out_dtype: torch.dtype | None) -> None:
        self.precision = precision
        self.out_dtype = out_dtype
        self.sum_dtype = torch.float64 if precision == "ieee" else torch.float32

    def out(
        self,
        x: Tensor,
        v: Tensor | None,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        derivative: int,
    ) -> Tensor:
        """`y` of docs/math.md eq. 5, `[rows, out_features]`."""
        check_derivative(derivative)
        parameters = (spline_weight, spline_scaler, base_weight)
        if batched.lacks_address(x, v, *parameters):
            return batched.out(x, v, knots, parameters, basis, derivative)
        layer = Layer(knots, *parameters, basis)
        y = x.new_empty((x.shape[0], layer.out_features), dtype=self.out_dtype)
        if y.numel() == 0 or layer.in_features == 0:
            return y.zero_()
        plan = triton_plan.out(
            self._shape(x, layer), layer.variant(v), derivative, tuned.generation()
        )
        with on_device(x):
            if plan.constants is None:
                triton_gather.out(x, v, layer, plan.tile, plan.shared, y, self.sum_dtype)
                return y
            jit().contract_out[plan.grid](
                *strides(x), *strides(v), layer.knots, *layer.parameters, y,
                x.shape[0], layer.in_features, layer.out_features, **plan.constants,
            )  # fmt: skip
        return y

    def in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        derivative_in: int,
        derivative_weight: int,
        need: tuple[bool, bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """`z` of eq. 6 and `S` of eq. 7 unfolded to the parameters; see `native.in_weight`."""
        if need[0]:
            check_derivative(derivative_in)
        parameters = (spline_weight, spline_scaler, base_weight)
        if batched.lacks_address(x, u, v, *parameters):
            return batched.in_weight(
                x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
            )
        layer = Layer(knots, *parameters, basis)
        z, *grads = (
            torch.empty_like(t, memory_format=torch.contiguous_format) if wanted else None
            for t, wanted in zip((x, *parameters), need, strict=True)
        )
        if x.shape[0] == 0 or layer.in_features == 0 or layer.out_features == 0:
            for t in (z, *grads):
                if t is not None:
                    t.zero_()
            return z, *grads
        with on_device(x):
            self._in_weight(x, u, v, layer, derivative_in, derivative_weight, z, grads)
        return z, *grads

    def _in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivative_in: int,
        derivative_weight: int,
        z: Tensor | None,
        grads: list[Tensor | None],
    ) -> None:
        grad_weight, grad_scaler, grad_base = grads
        need_spline = grad_weight is not None or grad_scaler is not None
        need_base = grad_base is not None
        plan = triton_plan.in_weight(
            self._shape(x, layer),
            layer.variant(v),
            (derivative_in, derivative_weight),
            (z is not None, grad_weight is not None, grad_scaler is not None, need_base),
            tuned.generation(),
        )
        if plan.gathers:
            triton_gather.contract_in(x, u, layer, derivative_in, z, self.sum_dtype)
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

    def weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        weight_shape: torch.Size,
        with_base: bool,
        basis: BasisSpec,
        derivative: int,
    ) -> tuple[Tensor, Tensor | None]:
        """`S` of eq. 7: its spline part `weight_shape`, and its base part or None."""
        check_derivative(derivative)
        if batched.lacks_address(x, u, v):
            spline, base = batched.weight(x, u, v, knots, basis, derivative)
            return spline, base if with_base else None
        # S does not depend on the weights, which lend their shapes alone
        dtype = knots.dtype
        spline = x.new_empty(weight_shape, dtype=dtype)
        base = x.new_empty(weight_shape[:2], dtype=dtype) if with_base else None
        _, spline, _, base = self.in_weight(
            x,
            u,
            v,
            knots,
            spline,
            None,
            base,
            basis,
            0,
            derivative,
            (False, True, False, with_base),
        )
        return spline, base

    def shape_of(
        self,
        x: Tensor,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
    ) -> tiles.Shape:
        """What the choice of a tile for this layer depends on."""
        return self._shape(x, Layer(knots, spline_weight, spline_scaler, base_weight, basis))

    def _shape(self, x: Tensor, layer: Layer) -> tiles.Shape:
        return tiles.Shape(
            self.precision, x.shape[0], layer.in_features, layer.out_features, layer.num_basis,
            layer.order, machine.gpu(x.device),
        )  # fmt: skip
