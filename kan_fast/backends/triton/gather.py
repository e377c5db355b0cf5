"""Launches for large grids: weights packed once, then gathered (`kernels/triton_jit/gather.py`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan_fast.backends.triton import tiles
from kan_fast.backends.triton.arguments import LayerArguments, jit, strides


def _pack(layer: LayerArguments, dtype: torch.dtype) -> Tensor:
    """The folded weights, `[in_features, num_basis + 1, out_features]`."""
    shape = (layer.in_features, layer.num_basis + 1, layer.out_features)
    packed = layer.weight.new_empty(shape, dtype=dtype)
    block = min(32, tiles.power_of_two(layer.out_features))
    jit().pack[(layer.in_features * tiles.ceil_div(layer.out_features, block),)](
        *layer.parameters, packed, layer.in_features, layer.out_features,
        NUM_BASIS=layer.num_basis, PADDED=tiles.power_of_two(layer.num_basis),
        HAS_SCALER=layer.scaler is not None, HAS_BASE=layer.base is not None, BLOCK_O=block,
        num_warps=4,
    )  # fmt: skip
    return packed


def out(
    x: Tensor,
    v: Tensor | None,
    layer: LayerArguments,
    tile: tiles.Gather,
    constants: dict[str, Any],
    y: Tensor,
    dtype: torch.dtype,
) -> None:
    """Writes eq. 5 to `y`.

    Args:
        constants: what `contract_out` and `gather_out` have in common.
        dtype: of coordinates, basis and sums.
    """
    rows = x.shape[0]
    grid = (tiles.ceil_div(rows, tile.rows) * tiles.ceil_div(layer.out_features, tile.outputs),)
    jit().gather_out[grid](
        *strides(x), *strides(v), layer.knots, _pack(layer, dtype), y,
        rows, layer.in_features, layer.out_features, **constants,
        COORDINATE=jit().dtypes[dtype], BLOCK_R=tile.rows, BLOCK_O=tile.outputs,
        num_warps=tile.warps,
    )  # fmt: skip


def contract_in(
    x: Tensor, u: Tensor, layer: LayerArguments, derivative: int, z: Tensor, dtype: torch.dtype
) -> None:
    """Writes eq. 6 to `z`."""
    tile = tiles.GATHER
    jit().gather_in[(layer.in_features * tiles.ceil_div(x.shape[0], tile.rows),)](
        *strides(x), *strides(u), layer.knots, _pack(layer, dtype), z,
        x.shape[0], layer.in_features, layer.out_features,
        ORDER=layer.order, DERIVATIVE=derivative, NUM_BASIS=layer.num_basis, STEPS=layer.steps,
        ACTIVATION=layer.activation, HAS_BASE=layer.base is not None,
        COORDINATE=jit().dtypes[dtype], BLOCK_R=tile.rows, BLOCK_O=tile.outputs,
        num_warps=tile.warps,
    )  # fmt: skip
