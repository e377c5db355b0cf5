"""z and S in one launch (docs/math.md, eq. 6 and 7).

    z[r,i]   = sum_o u[r,o] sum_g W[o,i,g] b_g^(d)(x[r,i])
    S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d)(x[r,i])

The grid holds the tiles of S (of its spline part, then of its base part), which take longest, and
then those of z. Sums over rows may be split; `unfold` adds the parts in a fixed order, so repeats
are bitwise equal.
"""

import triton
import triton.language as tl

from .activation import activation
from .bspline import active_values, columns
from .tiles import dot, edge_tile, pairwise_sum, row_tile, weight_tile


@triton.jit(do_not_specialize=["num_rows", "rows_a_split", "num_splits"])
def contract_in_weight(
    x, x_row, x_column, u, u_row, u_column, v, v_row, v_column, knots, weight, scaler, base,
    z, spline_sum, base_sum,
    num_rows, in_features, out_features, rows_a_split, num_splits,
    ORDER: tl.constexpr, DERIVATIVE_IN: tl.constexpr, DERIVATIVE_WEIGHT: tl.constexpr,
    NUM_BASIS: tl.constexpr, STEPS: tl.constexpr, ACTIVATION: tl.constexpr,
    HAS_V: tl.constexpr, HAS_SCALER: tl.constexpr, HAS_BASE: tl.constexpr,
    NEED_IN: tl.constexpr, NEED_SPLINE: tl.constexpr, NEED_BASE: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    IN_R: tl.constexpr, IN_I: tl.constexpr, IN_K: tl.constexpr, IN_STAGES: tl.constexpr,
    WEIGHT_O: tl.constexpr, WEIGHT_I: tl.constexpr, WEIGHT_K: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One tile of S or of z a program.

    x, v, z: `[num_rows, in_features]`, u `[num_rows, out_features]`, of any strides but z, which is
    contiguous; spline_sum `[num_splits, out_features, in_features, NUM_BASIS]` and base_sum
    `[num_splits, out_features, in_features]`: the parts of S.
    """
    program = tl.program_id(0)
    tiles_o = tl.cdiv(out_features, WEIGHT_O)
    spline_programs = 0
    base_programs = 0
    if NEED_SPLINE:
        chunks: tl.constexpr = (NUM_BASIS + WIDTH - 1) // WIDTH
        spline_programs = tiles_o * tl.cdiv(in_features, WEIGHT_I) * chunks * num_splits
    if NEED_BASE:
        base_programs = tiles_o * tl.cdiv(in_features, WEIGHT_I * WIDTH) * num_splits
    # a part that is not needed must not reach the compiler either
    if NEED_SPLINE:
        if program < spline_programs:
            _spline_sum_tile(
                program, tiles_o, x, x_row, x_column, u, u_row, u_column, v, v_row, v_column, knots,
                spline_sum, num_rows, in_features, out_features, rows_a_split,
                num_splits, ORDER, DERIVATIVE_WEIGHT, NUM_BASIS, STEPS, HAS_V, PRECISION,
                COORDINATE, WEIGHT_O, WEIGHT_I, WEIGHT_K, WIDTH,
            )  # fmt: skip
    program -= spline_programs
    if NEED_BASE:
        if (program >= 0) & (program < base_programs):
            _base_sum_tile(
                program, tiles_o, x, x_row, x_column, u, u_row, u_column, v, v_row, v_column,
                base_sum, num_rows, in_features, out_features, rows_a_split, num_splits,
                DERIVATIVE_WEIGHT, ACTIVATION, HAS_V, PRECISION, COORDINATE,
                WEIGHT_O, WEIGHT_I * WIDTH, WEIGHT_K,
            )  # fmt: skip
    program -= base_programs
    if NEED_IN:
        if program >= 0:
            _in_tile(
                program, x, x_row, x_column, u, u_row, u_column, knots, weight, scaler, base, z,
                num_rows, in_features, out_features, ORDER, DERIVATIVE_IN, NUM_BASIS,
                STEPS, ACTIVATION, HAS_SCALER, HAS_BASE, PRECISION, COORDINATE,
                IN_R, IN_I, IN_K, IN_STAGES, WIDTH,
            )  # fmt: skip


@triton.jit
def _in_tile(
    program, x, x_row, x_column, u, u_row, u_column, knots, weight, scaler, base, z,
    num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_SCALER: tl.constexpr, HAS_BASE: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """BLOCK_R rows by BLOCK_I inputs of z: u W, then times the basis, summed over its columns."""
    tiles_i = tl.cdiv(in_features, BLOCK_I)
    rows = (program // tiles_i).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    first = (program % tiles_i) * BLOCK_I
    i = first + tl.arange(0, BLOCK_I)
    found = tl.zeros((BLOCK_R, BLOCK_I), COORDINATE)
    for chunk in tl.static_range(0, NUM_BASIS, WIDTH):
        # the base branch goes along with the first columns
        found += _in_columns(
            rows, first, chunk, x, x_row, x_column, u, u_row, u_column, knots, weight, scaler, base,
            num_rows, in_features, out_features, ORDER, DERIVATIVE, NUM_BASIS, STEPS,
            ACTIVATION, HAS_SCALER, HAS_BASE and chunk == 0, PRECISION, COORDINATE,
            BLOCK_I, BLOCK_K, STAGES, WIDTH,
        )  # fmt: skip
    real = (rows < num_rows)[:, None] & (i < in_features)[None, :]
    place = rows[:, None] * in_features + i[None, :]
    tl.store(z + place, found.to(z.dtype.element_ty), mask=real)


@triton.jit
def _in_columns(
    rows, first, chunk: tl.constexpr, x, x_row, x_column, u, u_row, u_column, knots, weight, scaler,
    base, num_rows, in_features, out_features,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_SCALER: tl.constexpr, WITH_BASE: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """What WIDTH columns of the basis from `chunk` on, and the base branch, add to z."""
    i = first + tl.arange(0, BLOCK_I)
    product = tl.zeros((rows.shape[0], BLOCK_I * WIDTH), COORDINATE)
    base_product = tl.zeros((rows.shape[0], BLOCK_I), COORDINATE)
    # two loops: with two products in one, the compiler would let neither run ahead
    if DERIVATIVE <= ORDER:
        for first_o in tl.range(0, out_features, BLOCK_K, num_stages=STAGES):
            o = first_o + tl.arange(0, BLOCK_K)
            us = row_tile(u, rows, o, num_rows, out_features, u_row, u_column, COORDINATE)
            w = weight_tile(
                weight, scaler, o, first, chunk, in_features, out_features,
                NUM_BASIS, BLOCK_I, WIDTH, HAS_SCALER, COORDINATE,
            )  # fmt: skip
            product = dot(us, w, product, PRECISION)
    if WITH_BASE:
        for first_o in tl.range(0, out_features, BLOCK_K, num_stages=STAGES):
            o = first_o + tl.arange(0, BLOCK_K)
            us = row_tile(u, rows, o, num_rows, out_features, u_row, u_column, COORDINATE)
            wb = edge_tile(base, o, first, in_features, out_features, BLOCK_I, COORDINATE)
            base_product = dot(us, wb, base_product, PRECISION)
    at = row_tile(x, rows, i, num_rows, in_features, x_row, x_column, COORDINATE)
    found = at - at
    if DERIVATIVE <= ORDER:
        own = knots + tl.minimum(i, in_features - 1)[None, :] * (NUM_BASIS + ORDER + 1)
        values, cell = active_values(at, own, NUM_BASIS, ORDER, DERIVATIVE, STEPS)
        phi = columns(values, cell - ORDER - chunk, at - at, ORDER, WIDTH)
        found += tl.sum(tl.reshape(product, (rows.shape[0], BLOCK_I, WIDTH)) * phi, 2)
    if WITH_BASE:
        found += base_product * activation(at, ACTIVATION, DERIVATIVE)
    return found


@triton.jit
def _spline_sum_tile(
    program, tiles_o, x, x_row, x_column, u, u_row, u_column, v, v_row, v_column, knots, total,
    num_rows, in_features, out_features, rows_a_split, num_splits,
    ORDER: tl.constexpr, DERIVATIVE: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr,
    HAS_V: tl.constexpr, PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """BLOCK_O outputs by BLOCK_I inputs by WIDTH columns of S, over the rows of one split."""
    chunks: tl.constexpr = (NUM_BASIS + WIDTH - 1) // WIDTH
    split = program % num_splits
    program = program // num_splits
    o = (program % tiles_o) * BLOCK_O + tl.arange(0, BLOCK_O)
    program = program // tiles_o
    chunk = (program % chunks) * WIDTH
    first = (program // chunks) * BLOCK_I
    i = first + tl.arange(0, BLOCK_I)
    own = knots + tl.minimum(i, in_features - 1)[None, :] * (NUM_BASIS + ORDER + 1)
    begin = split.to(tl.int64) * rows_a_split
    end = tl.minimum(begin + rows_a_split, num_rows)
    found = tl.zeros((BLOCK_O, BLOCK_I * WIDTH), COORDINATE)
    if DERIVATIVE <= ORDER:
        for first_row in tl.range(begin, end, BLOCK_K, num_stages=1):
            rows = first_row + tl.arange(0, BLOCK_K)
            us = row_tile(u, rows, o, end, out_features, u_row, u_column, COORDINATE)
            at = row_tile(x, rows, i, end, in_features, x_row, x_column, COORDINATE)
            values, cell = active_values(at, own, NUM_BASIS, ORDER, DERIVATIVE, STEPS)
            phi = columns(values, cell - ORDER - chunk, at - at, ORDER, WIDTH)
            if HAS_V:
                vs = row_tile(v, rows, i, end, in_features, v_row, v_column, COORDINATE)
                phi = phi * vs[:, :, None]
            # the sum keeps the reshape apart from the copy to shared memory: merged, they ask for
            # a layout that the compiler refuses in TF32 (seen with triton 3.7)
            phi = tl.reshape(phi, (BLOCK_K, BLOCK_I * WIDTH)) + 0.0
            found = dot(tl.trans(us), phi, found, PRECISION)
    at_column = tl.arange(0, BLOCK_I * WIDTH)
    column_i = first + at_column // WIDTH
    g = chunk + at_column % WIDTH
    real = (o < out_features)[:, None] & ((column_i < in_features) & (g < NUM_BASIS))[None, :]
    if WIDTH == NUM_BASIS:
        column_place = first * NUM_BASIS + at_column
    else:
        column_place = column_i * NUM_BASIS + g
    row = (split.to(tl.int64) * out_features + o) * in_features * NUM_BASIS
    place = row[:, None] + column_place[None, :]
    tl.store(total + place, found.to(total.dtype.element_ty), mask=real)


@triton.jit
def _base_sum_tile(
    program, tiles_o, x, x_row, x_column, u, u_row, u_column, v, v_row, v_column, total,
    num_rows, in_features, out_features, rows_a_split, num_splits,
    DERIVATIVE: tl.constexpr, ACTIVATION: tl.constexpr, HAS_V: tl.constexpr,
    PRECISION: tl.constexpr, COORDINATE: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """BLOCK_O outputs by BLOCK_I inputs of the base part of S, over the rows of one split."""
    split = program % num_splits
    program = program // num_splits
    o = (program % tiles_o) * BLOCK_O + tl.arange(0, BLOCK_O)
    i = (program // tiles_o) * BLOCK_I + tl.arange(0, BLOCK_I)
    begin = split.to(tl.int64) * rows_a_split
    end = tl.minimum(begin + rows_a_split, num_rows)
    found = tl.zeros((BLOCK_O, BLOCK_I), COORDINATE)
    for first_row in tl.range(begin, end, BLOCK_K, num_stages=1):
        rows = first_row + tl.arange(0, BLOCK_K)
        us = row_tile(u, rows, o, end, out_features, u_row, u_column, COORDINATE)
        at = row_tile(x, rows, i, end, in_features, x_row, x_column, COORDINATE)
        value = activation(at, ACTIVATION, DERIVATIVE)
        if HAS_V:
            value *= row_tile(v, rows, i, end, in_features, v_row, v_column, COORDINATE)
        found = dot(tl.trans(us), value, found, PRECISION)
    real = (o < out_features)[:, None] & (i < in_features)[None, :]
    row = (split.to(tl.int64) * out_features + o) * in_features
    place = row[:, None] + i[None, :]
    tl.store(total + place, found.to(total.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["num_edges", "num_splits"])
def unfold(
    spline_sum, base_sum, weight, scaler, grad_weight, grad_scaler, grad_base,
    num_edges, num_splits,
    NUM_BASIS: tl.constexpr, PADDED: tl.constexpr, HAS_SCALER: tl.constexpr,
    NEED_WEIGHT: tl.constexpr, NEED_SCALER: tl.constexpr, NEED_BASE: tl.constexpr,
    COORDINATE: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """The parts of S, added in order, as gradients of the parameters (docs/math.md, eq. 8).

    spline_sum `[num_splits, num_edges, NUM_BASIS]`, base_sum `[num_splits, num_edges]`; PADDED is
    the power of two from NUM_BASIS on.
    """
    edge = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    real = edge < num_edges
    if NEED_WEIGHT or NEED_SCALER:
        g = tl.arange(0, PADDED)
        both = real[:, None] & (g < NUM_BASIS)[None, :]
        place = edge[:, None] * NUM_BASIS + g[None, :]
        found = tl.zeros((BLOCK_E, PADDED), COORDINATE)
        for _ in range(num_splits):
            found += tl.load(spline_sum + place, mask=both, other=0.0)
            place += num_edges.to(tl.int64) * NUM_BASIS
        place = edge[:, None] * NUM_BASIS + g[None, :]
        if NEED_SCALER:
            w = tl.load(weight + place, mask=both, other=0.0).to(COORDINATE)
            of_scaler = pairwise_sum(found * w)
            tl.store(grad_scaler + edge, of_scaler.to(grad_scaler.dtype.element_ty), mask=real)
        if NEED_WEIGHT:
            if HAS_SCALER:
                found *= tl.load(scaler + edge, mask=real, other=0.0).to(COORDINATE)[:, None]
            tl.store(grad_weight + place, found.to(grad_weight.dtype.element_ty), mask=both)
    if NEED_BASE:
        of_base = tl.zeros((BLOCK_E,), COORDINATE)
        at_edge = edge
        for _ in range(num_splits):
            of_base += tl.load(base_sum + at_edge, mask=real, other=0.0)
            at_edge += num_edges
        tl.store(grad_base + edge, of_base.to(grad_base.dtype.element_ty), mask=real)
