"""What the contractions share: tiles of inputs and of weights, and one tensor-core product."""

import triton
import triton.language as tl


@triton.jit
def dot(a, b, accumulator, PRECISION: tl.constexpr):
    """accumulator + a b, in the precision that the caller asked torch for.

    PRECISION: "ieee" (float64), "tf32x3" (as good as float32), "tf32", "bf16", "fp16"; with
    "_emulated" after the last two the operands are rounded and multiplied in float32, for Triton's
    interpreter, whose product of bfloat16 is not one.
    """
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), accumulator)
    elif PRECISION == "fp16":
        return tl.dot(a.to(tl.float16), b.to(tl.float16), accumulator)
    elif PRECISION == "bf16_emulated":
        a = a.to(tl.bfloat16).to(tl.float32)
        b = b.to(tl.bfloat16).to(tl.float32)
        return tl.dot(a, b, accumulator, input_precision="ieee")
    elif PRECISION == "fp16_emulated":
        a = a.to(tl.float16).to(tl.float32)
        b = b.to(tl.float16).to(tl.float32)
        return tl.dot(a, b, accumulator, input_precision="ieee")
    else:
        sum_dtype: tl.constexpr = accumulator.dtype
        return tl.dot(a, b, accumulator, input_precision=PRECISION, out_dtype=sum_dtype)


@triton.jit
def weight_tile(
    weight,
    scaler,
    o,
    first_input,
    first_column,
    in_features,
    out_features,
    NUM_BASIS: tl.constexpr,
    BLOCK_I: tl.constexpr,
    WIDTH: tl.constexpr,
    HAS_SCALER: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """W[o, i, g] for the outputs `o`, BLOCK_I inputs and WIDTH columns, `[o, BLOCK_I * WIDTH]`.

    The scaler is folded in, in DTYPE. Zero where an output, input or column does not exist.
    """
    column = tl.arange(0, BLOCK_I * WIDTH)
    i = first_input + column // WIDTH
    g = first_column + column % WIDTH
    real = (o < out_features)[:, None] & ((i < in_features) & (g < NUM_BASIS))[None, :]
    if WIDTH == NUM_BASIS:
        place = first_input * NUM_BASIS + column
    else:
        place = i * NUM_BASIS + g
    row = o.to(tl.int64) * in_features * NUM_BASIS
    tile = tl.load(weight + row[:, None] + place[None, :], mask=real, other=0.0).to(DTYPE)
    if HAS_SCALER:
        s = edge_tile(scaler, o, first_input, in_features, out_features, BLOCK_I, DTYPE)
        spread = tl.broadcast_to(s[:, :, None], (s.shape[0], BLOCK_I, WIDTH))
        tile = tile * tl.reshape(spread, (s.shape[0], BLOCK_I * WIDTH))
    return tile


@triton.jit
def edge_tile(
    matrix,
    o,
    first_input,
    in_features,
    out_features,
    BLOCK_I: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """`matrix[o, i]` for the outputs `o` and BLOCK_I inputs, in DTYPE; zero beyond."""
    i = first_input + tl.arange(0, BLOCK_I)
    real = (o < out_features)[:, None] & (i < in_features)[None, :]
    place = o.to(tl.int64)[:, None] * in_features + i[None, :]
    return tl.load(matrix + place, mask=real, other=0.0).to(DTYPE)


@triton.jit
def row_tile(
    matrix,
    rows,
    columns,
    num_rows,
    num_columns,
    row_stride,
    column_stride,
    DTYPE: tl.constexpr,
):
    """`matrix[rows, columns]` of any strides, in DTYPE; zero beyond."""
    real = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    place = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(matrix + place, mask=real, other=0.0).to(DTYPE)


@triton.jit
def pairwise_sum(x):
    """Sums of the rows of `x`, `[rows, columns]` to `[rows]`, of neighbours in pairs.

    `tl.sum` adds in the order of the layout of `x`, which depends on what is a multiple of 16 among
    sizes, strides and addresses.
    """
    columns: tl.constexpr = x.shape[1]
    for step in tl.static_range(20):
        if columns >> step > 1:
            even, odd = tl.split(tl.reshape(x, (x.shape[0], columns >> (step + 1), 2)))
            x = even + odd
    return tl.reshape(x, (x.shape[0],))
