"""y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]) (docs/math.md, eq. 5): an implicit product.

The factor on the left, rows by inputs x columns, is made in registers tile by tile from x and never
stored.
"""

import triton
import triton.language as tl

from .activation import activation
from .bspline import active_values, columns
from .tiles import dot, edge_tile, row_tile, weight_tile


@triton.jit(do_not_specialize=["num_rows"])
def contract_out(
    x, x_row, x_column, v, v_row, v_column, knots, weight, scaler, base, y,
    num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_V: tl.constexpr, HAS_SCALER: tl.constexpr, HAS_BASE: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr, WIDTH: tl.constexpr,
    BASE_I: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One tile of y a program, outputs fastest so that neighbours share x.

    x, v: `[num_rows, in_features]` of any strides; knots `[in_features, NUM_BASIS + ORDER + 1]`;
    weight `[out_features, in_features, NUM_BASIS]`; scaler, base `[out_features, in_features]`; y
    `[num_rows, out_features]`, all contiguous. COORDINATE is the dtype of the spline's arithmetic
    and of the sums.
    """
    tiles_o = tl.cdiv(out_features, BLOCK_O)
    program = tl.program_id(0)
    rows = (program // tiles_o).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    o = (program % tiles_o) * BLOCK_O + tl.arange(0, BLOCK_O)
    total = tl.zeros((BLOCK_R, BLOCK_O), COORDINATE)
    if DERIVATIVE <= ORDER:
        total = _splines(
            total, x, x_row, x_column, v, v_row, v_column, knots, weight, scaler, rows, o,
            num_rows, in_features, out_features, ORDER, DERIVATIVE, NUM_BASIS, STEPS,
            HAS_V, HAS_SCALER, PRECISION, COORDINATE, BLOCK_I, WIDTH,
        )  # fmt: skip
    if HAS_BASE:
        total = _base_branch(
            total, x, x_row, x_column, v, v_row, v_column, base, rows, o,
            num_rows, in_features, out_features,
            DERIVATIVE, ACTIVATION, HAS_V, PRECISION, COORDINATE, BASE_I, STAGES,
        )  # fmt: skip
    real = (rows < num_rows)[:, None] & (o < out_features)[None, :]
    place = rows[:, None] * out_features + o[None, :]
    tl.store(y + place, total.to(y.dtype.element_ty), mask=real)


@triton.jit
def _splines(
    total, x, x_row, x_column, v, v_row, v_column, knots, weight, scaler, rows, o,
    num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    HAS_V: tl.constexpr, HAS_SCALER: tl.constexpr, PRECISION: tl.constexpr,
    COORDINATE: tl.constexpr, BLOCK_I: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """total + the sum over inputs and columns.

    Loads are issued before the arithmetic that they hide behind: the weights of a step and the x of
    the next. Copies ahead by the compiler (num_stages) would take in the gathers of knots as well.
    """
    i = tl.arange(0, BLOCK_I)
    ahead = row_tile(x, rows, i, num_rows, in_features, x_row, x_column, COORDINATE)
    for first in tl.range(0, in_features, BLOCK_I, num_stages=1):
        i = first + tl.arange(0, BLOCK_I)
        at = ahead
        w = weight_tile(
            weight, scaler, o, first, 0, in_features, out_features,
            NUM_BASIS, BLOCK_I, WIDTH, HAS_SCALER, COORDINATE,
        )  # fmt: skip
        ahead = row_tile(x, rows, i + BLOCK_I, num_rows, in_features, x_row, x_column, COORDINATE)
        if HAS_V:
            vs = row_tile(v, rows, i, num_rows, in_features, v_row, v_column, COORDINATE)
        own = knots + tl.minimum(i, in_features - 1)[None, :] * (NUM_BASIS + ORDER + 1)
        values, cell = active_values(at, own, NUM_BASIS, ORDER, DERIVATIVE, STEPS)
        for chunk in tl.static_range(0, NUM_BASIS, WIDTH):
            if chunk > 0:
                w = weight_tile(
                    weight, scaler, o, first, chunk, in_features, out_features,
                    NUM_BASIS, BLOCK_I, WIDTH, HAS_SCALER, COORDINATE,
                )  # fmt: skip
            phi = columns(values, cell - ORDER - chunk, at - at, ORDER, WIDTH)
            if HAS_V:
                phi = phi * vs[:, :, None]
            phi = tl.reshape(phi, (rows.shape[0], BLOCK_I * WIDTH))
            total = dot(phi, tl.trans(w), total, PRECISION)
    return total


@triton.jit
def _base_branch(
    total, x, x_row, x_column, v, v_row, v_column, base, rows, o,
    num_rows, in_features, out_features,
    DERIVATIVE: tl.constexpr, ACTIVATION: tl.constexpr, HAS_V: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_I: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """total + sum_i v[r,i] base[o,i] a^(d)(x[r,i]): an ordinary product."""
    for first in tl.range(0, in_features, BLOCK_I, num_stages=STAGES):
        i = first + tl.arange(0, BLOCK_I)
        at = row_tile(x, rows, i, num_rows, in_features, x_row, x_column, COORDINATE)
        value = activation(at, ACTIVATION, DERIVATIVE)
        if HAS_V:
            value *= row_tile(v, rows, i, num_rows, in_features, v_row, v_column, COORDINATE)
        w = edge_tile(base, o, first, in_features, out_features, BLOCK_I, COORDINATE)
        total = dot(value, tl.trans(w), total, PRECISION)
    return total
