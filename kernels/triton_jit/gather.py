"""Contractions for large grids: each x reads the ORDER + 1 weight rows that it touches.

Work does not grow with the grid, unlike that of the dense products, and sums are in full precision.
The weights are packed first, `[in_features, NUM_BASIS + 1, out_features]`, so that a row is one run
of memory; the scaler is folded in and the base weights are the last row.
"""

import triton
import triton.language as tl

from .activation import activation
from .bspline import active_values
from .tiles import pairwise_sum, row_tile


@triton.jit
def pack(
    weight, scaler, base, packed, in_features, out_features,
    NUM_BASIS: tl.constexpr, PADDED: tl.constexpr, HAS_SCALER: tl.constexpr,
    HAS_BASE: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """One input and BLOCK_O outputs a program; PADDED is the power of two from NUM_BASIS on."""
    i = tl.program_id(0) % in_features
    o = (tl.program_id(0) // in_features) * BLOCK_O + tl.arange(0, BLOCK_O)
    g = tl.arange(0, PADDED)
    dtype: tl.constexpr = packed.dtype.element_ty
    edge = o.to(tl.int64) * in_features + i
    real = o < out_features
    both = real[:, None] & (g < NUM_BASIS)[None, :]
    w = tl.load(weight + edge[:, None] * NUM_BASIS + g[None, :], mask=both, other=0.0).to(dtype)
    if HAS_SCALER:
        w *= tl.load(scaler + edge, mask=real, other=0.0).to(dtype)[:, None]
    rows = packed + i.to(tl.int64) * (NUM_BASIS + 1) * out_features
    tl.store(rows + g.to(tl.int64)[None, :] * out_features + o[:, None], w, mask=both)
    if HAS_BASE:
        w = tl.load(base + edge, mask=real, other=0.0).to(dtype)
        tl.store(rows + NUM_BASIS * out_features + o, w, mask=real)


@triton.jit
def _row_sum(
    values, cell, slope, packed, o, real, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, HAS_BASE: tl.constexpr,
):  # fmt: skip
    """sum_g b_g W[i, g, o] for each x and the outputs `o`, `[x, o]`; `slope` is the base branch.

    packed: the rows of input i.
    """
    found = tl.zeros((values[0].shape[0], o.shape[0]), packed.dtype.element_ty)
    if DERIVATIVE <= ORDER:
        for m in tl.static_range(ORDER + 1):
            g = cell - ORDER + m
            exists = (g >= 0) & (g < NUM_BASIS)
            row = packed + g.to(tl.int64) * out_features
            w = tl.load(row[:, None] + o[None, :], mask=real & exists[:, None], other=0.0)
            found += values[m][:, None] * w
    if HAS_BASE:
        row = packed + NUM_BASIS * out_features
        w = tl.load(row + o, mask=o < out_features, other=0.0)
        found += slope[:, None] * w[None, :]
    return found


@triton.jit(do_not_specialize=["num_rows"])
def gather_out(
    x, x_row, x_column, v, v_row, v_column, knots, packed, y,
    num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_V: tl.constexpr, HAS_BASE: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """BLOCK_R rows by BLOCK_O outputs of y; arguments as in `contract_out`."""
    tiles_o = tl.cdiv(out_features, BLOCK_O)
    rows = (tl.program_id(0) // tiles_o).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    o = (tl.program_id(0) % tiles_o) * BLOCK_O + tl.arange(0, BLOCK_O)
    real = (rows < num_rows)[:, None] & (o < out_features)[None, :]
    total = tl.zeros((BLOCK_R, BLOCK_O), COORDINATE)
    x_at = x + rows * x_row
    v_at = v
    if HAS_V:
        v_at = v + rows * v_row
    for _ in range(in_features):
        at = tl.load(x_at, mask=rows < num_rows, other=0.0).to(COORDINATE)
        values, cell = active_values(at, knots, NUM_BASIS, ORDER, DERIVATIVE, STEPS)
        slope = activation(at, ACTIVATION, DERIVATIVE)
        part = _row_sum(
            values, cell, slope, packed, o, real, out_features,
            ORDER, DERIVATIVE, NUM_BASIS, HAS_BASE,
        )  # fmt: skip
        if HAS_V:
            part *= tl.load(v_at, mask=rows < num_rows, other=0.0).to(COORDINATE)[:, None]
            v_at += v_column
        total += part
        x_at += x_column
        knots += NUM_BASIS + ORDER + 1
        packed += (NUM_BASIS + 1) * out_features
    tl.store(y + rows[:, None] * out_features + o[None, :], total.to(y.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["num_rows"])
def gather_in(
    x, x_row, x_column, u, u_row, u_column, knots, packed, z,
    num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_BASE: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """BLOCK_R rows of one input of z; arguments as in `contract_in_weight`."""
    i = tl.program_id(0) % in_features
    rows = (tl.program_id(0) // in_features).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    place = rows * x_row + i.to(tl.int64) * x_column
    at = tl.load(x + place, mask=rows < num_rows, other=0.0).to(COORDINATE)
    values, cell = active_values(
        at, knots + i * (NUM_BASIS + ORDER + 1), NUM_BASIS, ORDER, DERIVATIVE, STEPS
    )
    slope = activation(at, ACTIVATION, DERIVATIVE)
    packed += i.to(tl.int64) * (NUM_BASIS + 1) * out_features
    total = tl.zeros((BLOCK_R, BLOCK_O), COORDINATE)
    for first in range(0, out_features, BLOCK_O):
        o = first + tl.arange(0, BLOCK_O)
        real = (rows < num_rows)[:, None] & (o < out_features)[None, :]
        us = row_tile(u, rows, o, num_rows, out_features, u_row, u_column, COORDINATE)
        total += us * _row_sum(
            values, cell, slope, packed, o, real, out_features,
            ORDER, DERIVATIVE, NUM_BASIS, HAS_BASE,
        )  # fmt: skip
    found = pairwise_sum(total).to(z.dtype.element_ty)
    tl.store(z + rows * in_features + i, found, mask=rows < num_rows)
