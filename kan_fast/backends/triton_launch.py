"""Launches of the Triton contractions: shapes, strides and tiles to `kernels/triton_jit`.

Every launch is on torch's current stream, waits for nothing and allocates from torch's pool, so a
graph can capture it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import batched, tiles, triton_gather
from kan_fast.backends.devices import on_device
from kan_fast.backends.triton_arguments import Layer, jit, strides
from kan_fast.errors import check_derivative
from kan_fast.spec import BasisSpec

#: all that there are: left alone, the assembler spills a few to fit one more block
MAX_REGISTERS = 255


class TritonKernels:
    """The contractions in one precision (`kan_fast.kernels.Kernels`).

    Args:
        precision: "ieee" (float64), "tf32x3", "tf32", "bf16" or "fp16": of the products. Sums are
            in float32, and so are coordinates and the basis; in float64 for "ieee".
        out_dtype: of results with rows and outputs; that of x where None.
    """

    def __init__(self, precision: str, out_dtype: torch.dtype | None) -> None:
        self.precision = precision
        self.out_dtype = out_dtype
        self.sum_dtype = torch.float64 if precision == "ieee" else torch.float32

    @property
    def coordinate(self) -> Any:
        """The dtype of coordinates, basis and sums, as Triton names it."""
        return jit().dtypes[self.sum_dtype]

    @property
    def _product(self) -> str:
        emulated = machine.facts().interpreter and self.precision in ("bf16", "fp16")
        return f"{self.precision}_emulated" if emulated else self.precision

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
        if batched.is_batched(v, *parameters):
            return batched.out(x, v, knots, parameters, basis, derivative)
        layer = Layer(knots, *parameters, basis)
        rows, out_features = x.shape[0], layer.out_features
        y = x.new_empty((rows, out_features), dtype=self.out_dtype)
        if y.numel() == 0 or layer.in_features == 0:
            return y.zero_()
        kernels = jit()
        shared = dict(
            ORDER=layer.order, DERIVATIVE=derivative, NUM_BASIS=layer.num_basis, STEPS=layer.steps,
            ACTIVATION=layer.activation, HAS_V=v is not None, HAS_BASE=base_weight is not None,
        )  # fmt: skip
        tile = tiles.for_out(self._shape(x, layer))
        sizes = (rows, layer.in_features, out_features)
        with on_device(x):
            if isinstance(tile, tiles.Gather):
                triton_gather.out(x, v, layer, tile, shared, y, self.sum_dtype)
                return y
            grid = (tiles.ceil_div(rows, tile.rows) * tiles.ceil_div(out_features, tile.outputs),)
            kernels.contract_out[grid](
                *strides(x), *strides(v), layer.knots, *layer.parameters, y, *sizes, **shared,
                HAS_SCALER=spline_scaler is not None, PRECISION=self._product,
                COORDINATE=self.coordinate, BLOCK_R=tile.rows,
                BLOCK_O=tile.outputs, BLOCK_I=tile.columns // tile.width, WIDTH=tile.width,
                BASE_I=tile.columns, STAGES=tile.stages, num_warps=tile.warps, num_stages=1,
                maxnreg=MAX_REGISTERS,
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
        if batched.is_batched(u, v, *parameters):
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
        kernels = jit()
        shape = self._shape(x, layer)
        if z is not None and tiles.gathers(shape):
            triton_gather.contract_in(x, u, layer, derivative_in, z, self.sum_dtype)
            z = None
        grad_weight, grad_scaler, grad_base = grads
        need_spline = grad_weight is not None or grad_scaler is not None
        need_base = grad_base is not None
        if z is None and not need_spline and not need_base:
            return
        tile = tiles.for_in_weight(shape)
        splits, rows_a_split = tiles.splits(shape, tile, need_spline, need_base)
        # with one part and nothing to multiply by, the sums are the gradients
        direct = splits == 1 and layer.scaler is None
        spline_sum, base_sum = grad_weight, grad_base
        if not direct:
            parts = functools.partial(x.new_empty, dtype=self.sum_dtype)
            spline_sum = parts((splits, *layer.weight.shape)) if need_spline else None
            base_sum = parts((splits, *layer.weight.shape[:2])) if need_base else None
        rows = x.shape[0]
        sizes = (rows, layer.in_features, layer.out_features)
        grid = (tiles.programs(shape, tile, splits, z is not None, need_spline, need_base),)
        kernels.contract_in_weight[grid](
            *strides(x), *strides(u), *strides(v), layer.knots, *layer.parameters,
            z, spline_sum, base_sum, *sizes, rows_a_split, splits,
            ORDER=layer.order, DERIVATIVE_IN=derivative_in, DERIVATIVE_WEIGHT=derivative_weight,
            NUM_BASIS=layer.num_basis, STEPS=layer.steps, ACTIVATION=layer.activation,
            HAS_V=v is not None, HAS_SCALER=layer.scaler is not None,
            HAS_BASE=layer.base is not None, NEED_IN=z is not None, NEED_SPLINE=need_spline,
            NEED_BASE=need_base, PRECISION=self._product, COORDINATE=self.coordinate,
            IN_R=tile.in_rows, IN_I=tile.in_columns // tile.width, IN_K=tile.in_step,
            IN_STAGES=tile.in_stages, WEIGHT_O=tile.weight_outputs,
            WEIGHT_I=tile.weight_columns // tile.width, WEIGHT_K=tile.weight_step,
            WIDTH=tile.width, num_warps=tile.warps, num_stages=1, maxnreg=MAX_REGISTERS,
        )  # fmt: skip
        if direct or not (need_spline or need_base):
            return
        edges = layer.in_features * layer.out_features
        padded = tiles.power_of_two(layer.num_basis)
        block = max(1, 512 // padded)
        kernels.unfold[(tiles.ceil_div(edges, block),)](
            spline_sum, base_sum, layer.weight, layer.scaler, grad_weight, grad_scaler, grad_base,
            edges, splits, NUM_BASIS=layer.num_basis, PADDED=padded,
            HAS_SCALER=layer.scaler is not None, NEED_WEIGHT=grad_weight is not None,
            NEED_SCALER=grad_scaler is not None, NEED_BASE=need_base,
            COORDINATE=self.coordinate, BLOCK_E=block, num_warps=4,
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
        if batched.is_batched(u, v):
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
