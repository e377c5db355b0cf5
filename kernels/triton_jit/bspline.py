"""B-splines on stored knots: the cell, its active functions, and a run of columns of the basis.

docs/math.md, eq. 1 to 3. Every quotient spans the cell of x, so none divides by zero, and any
derivative of any degree is the same triangle with its last levels differenced.
"""

import triton
import triton.language as tl

#: Triton's interpreter knows no assembly
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def reciprocal(x):
    """1 / x; of float32 to the last digit but one, in one instruction instead of six."""
    if INTERPRETED or x.dtype == tl.float64:
        inverse = 1.0 / x
    else:
        inverse = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return inverse


@triton.jit
def locate(x, knots, NUM_CELLS: tl.constexpr, STEPS: tl.constexpr):
    """The last cell that starts at or below x (eq. 1), or cell 0 where none does, by bisection.

    `knots` points at the first knot of the input of each x; 2**STEPS is the largest power of two
    that is at most NUM_CELLS. After the first probe a power of two of cells is left, so that no
    probe can miss the knots and none needs a mask.
    """
    cell = tl.zeros_like(x).to(tl.int32)
    if NUM_CELLS > 2**STEPS:
        knot = tl.load(knots + (NUM_CELLS - 2**STEPS)).to(x.dtype)
        cell = tl.where(knot <= x, NUM_CELLS - 2**STEPS, cell)
    for step in tl.static_range(STEPS):
        probe = cell + 2 ** (STEPS - 1 - step)
        knot = tl.load(knots + probe).to(x.dtype)
        cell = tl.where(knot <= x, probe, cell)
    return cell


@triton.jit
def _knot(at, exists, far: tl.constexpr, dtype: tl.constexpr):
    """A stored knot, or one that is far away."""
    if at.dtype.element_ty == tl.float16:  # in which far away is infinite
        knot = tl.where(exists, tl.load(at, mask=exists, other=0.0).to(dtype), far)
    else:
        knot = tl.load(at, mask=exists, other=far).to(dtype)
    return knot


@triton.jit
def active_values(
    x,
    knots,
    NUM_BASIS: tl.constexpr,
    ORDER: tl.constexpr,
    DERIVATIVE: tl.constexpr,
    STEPS: tl.constexpr,
):
    """The ORDER + 1 functions that are active at x, and the cell.

    Function m has index cell - ORDER + m. Outside the knots all are zero; of functions that do not
    exist (indices below 0 or from NUM_BASIS on) the values are finite and mean nothing; where x is
    not finite all are NaN.
    """
    last_knot: tl.constexpr = NUM_BASIS + ORDER
    nothing = x - x  # zero, or NaN where x is not finite
    cell = locate(x, knots, last_knot, STEPS)
    at = knots + cell
    if DERIVATIVE > ORDER:
        values = (nothing,)
        for _ in tl.static_range(ORDER):
            values = values + (nothing,)
    else:
        # t_{cell}, t_{cell-1}, ... and t_{cell+1}, t_{cell+2}, ...; those that do not exist matter
        # only to functions that do not exist, but must be finite
        lower = (tl.load(at).to(x.dtype),)
        upper = (tl.load(at + 1).to(x.dtype),)
        for m in tl.static_range(1, ORDER):
            lower = lower + (_knot(at - m, cell >= m, -1e30, x.dtype),)
            upper = upper + (_knot(at + (1 + m), cell < last_knot - m, 1e30, x.dtype),)
        inside = (x >= lower[0]) & (x < upper[0])
        values = (tl.where(inside, 1.0, 0.0).to(x.dtype) + nothing,)
        for level in tl.static_range(1, ORDER + 1):
            carried = nothing
            following = ()
            for r in tl.static_range(level):
                low = lower[level - 1 - r]
                high = upper[r]
                part = values[r] * reciprocal(high - low)
                if level <= ORDER - DERIVATIVE:
                    following = following + (carried + (high - x) * part,)
                    carried = (x - low) * part
                else:
                    following = following + (carried - level * part,)
                    carried = level * part
            values = following + (carried,)
    return values, cell


@triton.jit
def column(values, first, nothing, g: tl.constexpr, ORDER: tl.constexpr):
    """Basis function g from the active ones, of which number 0 has index `first`."""
    found = nothing
    for m in tl.static_range(ORDER + 1):
        found = tl.where(first == g - m, values[m], found)
    return found


@triton.jit
def columns(values, first, nothing, ORDER: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH columns of the basis from the active values, as one more axis of that length.

    first: the column of the first active function, counted from the first column wanted; nothing:
    zero, or NaN where x is not finite. WIDTH is 4 or 8.
    """
    c = ()
    for g in tl.static_range(WIDTH):
        c = c + (column(values, first, nothing, g, ORDER),)
    # a join adds the fastest axis, so the pairs that meet last are the neighbours
    if WIDTH == 4:
        joined = tl.join(tl.join(c[0], c[2]), tl.join(c[1], c[3]))
    else:
        even = tl.join(tl.join(c[0], c[4]), tl.join(c[2], c[6]))
        odd = tl.join(tl.join(c[1], c[5]), tl.join(c[3], c[7]))
        joined = tl.join(even, odd)
    return tl.reshape(joined, (first.shape[0], first.shape[1], WIDTH))
