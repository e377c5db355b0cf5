"""The Gram matrix of the basis over a batch, in float64 (docs/math.md, eq. 9), and its gradient."""

import triton
import triton.language as tl

from .activation import activation
from .bspline import active_values
from .tiles import dot


@triton.jit
def _functions(
    x, knots, g,
    ORDER: tl.constexpr, NUM_BASIS: tl.constexpr, STEPS: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """Functions `g` at `x`, `[x, g]`; number NUM_BASIS is the base activation."""
    values, cell = active_values(x, knots, NUM_BASIS, ORDER, 0, STEPS)
    found = tl.zeros((x.shape[0], g.shape[0]), tl.float64) + (x - x)[:, None]
    for m in tl.static_range(ORDER + 1):
        found = tl.where((cell - ORDER + m)[:, None] == g[None, :], values[m][:, None], found)
    base = activation(x, ACTIVATION, 0)
    return tl.where((g == NUM_BASIS)[None, :], base[:, None], found)


@triton.jit(do_not_specialize=["num_rows", "rows_a_split"])
def gram(
    x, x_row, x_column, first_knots, second_knots, parts,
    num_rows, in_features, rows_a_split,
    ORDER: tl.constexpr, ACTIVATION: tl.constexpr,
    FIRST_KNOTS: tl.constexpr, FIRST_STEPS: tl.constexpr,
    SECOND_KNOTS: tl.constexpr, SECOND_STEPS: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """BLOCK_G by BLOCK_G functions of one input over the rows of one split a program.

    parts: `[splits, in_features, FIRST_KNOTS - ORDER, SECOND_KNOTS - ORDER]`, float64.
    """
    first: tl.constexpr = FIRST_KNOTS - ORDER
    second: tl.constexpr = SECOND_KNOTS - ORDER
    tiles: tl.constexpr = (second + BLOCK_G - 1) // BLOCK_G
    i = tl.program_id(0)
    g = (tl.program_id(1) // tiles) * BLOCK_G + tl.arange(0, BLOCK_G)
    h = (tl.program_id(1) % tiles) * BLOCK_G + tl.arange(0, BLOCK_G)
    split = tl.program_id(2).to(tl.int64)
    begin = split * rows_a_split
    end = tl.minimum(begin + rows_a_split, num_rows)
    found = tl.zeros((BLOCK_G, BLOCK_G), tl.float64)
    for first_row in range(begin, end, BLOCK_R):
        rows = first_row + tl.arange(0, BLOCK_R)
        real = rows < end
        place = rows.to(tl.int64) * x_row + i.to(tl.int64) * x_column
        at = tl.load(x + place, mask=real, other=0.0).to(tl.float64)
        left = _functions(
            at, first_knots + i * FIRST_KNOTS, g,
            ORDER, first - 1, FIRST_STEPS, ACTIVATION,
        )  # fmt: skip
        right = _functions(
            at, second_knots + i * SECOND_KNOTS, h,
            ORDER, second - 1, SECOND_STEPS, ACTIVATION,
        )  # fmt: skip
        left = tl.where(real[:, None], left, 0.0)
        found = dot(tl.trans(left), right, found, "ieee")
    both = (g < first)[:, None] & (h < second)[None, :]
    place = (split * in_features + i) * first * second
    tl.store(parts + place + g[:, None] * second + h[None, :], found, mask=both)


@triton.jit(do_not_specialize=["num_rows"])
def gram_gradient(
    x, x_row, x_column, first_knots, second_knots, cotangent, z,
    num_rows, in_features,
    ORDER: tl.constexpr, ACTIVATION: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr,
    FIRST_KNOTS: tl.constexpr, FIRST_STEPS: tl.constexpr,
    SECOND_KNOTS: tl.constexpr, SECOND_STEPS: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """z[r,i] = sum_gh A[i,g,h] b_g^(LEFT) c_h^(RIGHT) for BLOCK_R rows of one input.

    cotangent: A, `[in_features, FIRST_KNOTS - ORDER, SECOND_KNOTS - ORDER]`, float64.
    """
    first: tl.constexpr = FIRST_KNOTS - ORDER
    second: tl.constexpr = SECOND_KNOTS - ORDER
    i = tl.program_id(0) % in_features
    rows = (tl.program_id(0) // in_features).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = rows < num_rows
    place = rows * x_row + i.to(tl.int64) * x_column
    at = tl.load(x + place, mask=real, other=0.0).to(tl.float64)
    left, cell = active_values(
        at, first_knots + i * FIRST_KNOTS, first - 1, ORDER, LEFT, FIRST_STEPS
    )
    right, other_cell = active_values(
        at, second_knots + i * SECOND_KNOTS, second - 1, ORDER, RIGHT, SECOND_STEPS
    )
    left_base = activation(at, ACTIVATION, LEFT)
    right_base = activation(at, ACTIVATION, RIGHT)
    found = tl.zeros((BLOCK_R,), tl.float64)
    matrix = cotangent + i.to(tl.int64) * first * second
    for m in tl.static_range(ORDER + 2):
        if m <= ORDER:
            g = cell - ORDER + m
            b = left[m]
        else:
            g = cell * 0 + (first - 1)
            b = left_base
        row = tl.zeros((BLOCK_R,), tl.float64)
        row_exists = (g >= 0) & ((g < first - 1) | (m > ORDER))
        for n in tl.static_range(ORDER + 2):
            if n <= ORDER:
                h = other_cell - ORDER + n
                c = right[n]
            else:
                h = other_cell * 0 + (second - 1)
                c = right_base
            exists = row_exists & (h >= 0) & ((h < second - 1) | (n > ORDER))
            row += c * tl.load(matrix + g * second + h, mask=real & exists, other=0.0)
        found += b * row
    tl.store(z + rows * in_features + i, found.to(z.dtype.element_ty), mask=real)
