"""B-splines on stored knots: the cell, its active functions, and a run of columns of the basis.

docs/math.md, eq. 1 to 3. Every quotient spans the cell of x, so none divides by zero, and any
derivative of any degree is the same triangle with its last levels differenced.
"""

import triton
import triton.language as tl


@triton.jit
def locate(x, knots, num_knots, STEPS: tl.constexpr):
    """Number of knots that are <= x, less one, by bisection: the cell of eq. 1, or -1 or the last
    knot outside.

    `knots` points at the first knot of the input of each x; 2**STEPS > num_knots.
    """
    below = tl.zeros_like(x).to(tl.int32)
    for step in tl.static_range(STEPS):
        probe = below + (1 << (STEPS - 1 - step))
        exists = probe <= num_knots
        knot = tl.load(knots + (probe - 1), mask=exists, other=0.0).to(x.dtype)
        below = tl.where(exists & (knot <= x), probe, below)
    return below - 1


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
    num_knots,
    ORDER: tl.constexpr,
    DERIVATIVE: tl.constexpr,
    STEPS: tl.constexpr,
):
    """The ORDER + 1 functions that are active at x, and the cell.

    Function m has index cell - ORDER + m. Outside the knots all are zero; of functions that do not
    exist (indices below 0 or from num_basis on) the values are finite and mean nothing; where x is
    not finite all are NaN.
    """
    cell = locate(x, knots, num_knots, STEPS)
    inside = (cell >= 0) & (cell < num_knots - 1)
    nothing = x - x  # zero, or NaN where x is not finite
    values = (tl.where(inside, 1.0, 0.0).to(x.dtype) + nothing,)
    if DERIVATIVE > ORDER:
        for _ in tl.static_range(ORDER):
            values = values + (nothing,)
        values = (nothing,) + values[1:]
    else:
        at = knots + cell
        # t_{cell}, t_{cell-1}, ... and t_{cell+1}, t_{cell+2}, ...; what does not exist is far away
        lower = ()
        upper = ()
        for m in tl.static_range(ORDER):
            exists = inside & (cell >= m)
            lower = lower + (_knot(at - m, exists, -1e30, x.dtype),)
            exists = inside & (cell < num_knots - 1 - m)
            upper = upper + (_knot(at + (1 + m), exists, 1e30, x.dtype),)
        for level in tl.static_range(1, ORDER + 1):
            carried = nothing
            following = ()
            for r in tl.static_range(level):
                low = lower[level - 1 - r]
                high = upper[r]
                part = values[r] / (high - low)
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
def columns(
    x,
    knots,
    num_knots,
    first_column,
    ORDER: tl.constexpr,
    DERIVATIVE: tl.constexpr,
    STEPS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Functions first_column .. first_column + WIDTH - 1 at x, as one more axis of that length.

    WIDTH is 4, 8 or 16.
    """
    values, cell = active_values(x, knots, num_knots, ORDER, DERIVATIVE, STEPS)
    first = cell - ORDER - first_column
    nothing = x - x
    c = ()
    for g in tl.static_range(WIDTH):
        c = c + (column(values, first, nothing, g, ORDER),)
    # a join adds the fastest axis, so the pairs that meet last are the neighbours
    if WIDTH == 4:
        joined = tl.join(tl.join(c[0], c[2]), tl.join(c[1], c[3]))
    elif WIDTH == 8:
        even = tl.join(tl.join(c[0], c[4]), tl.join(c[2], c[6]))
        odd = tl.join(tl.join(c[1], c[5]), tl.join(c[3], c[7]))
        joined = tl.join(even, odd)
    else:
        a = tl.join(tl.join(c[0], c[8]), tl.join(c[4], c[12]))
        b = tl.join(tl.join(c[2], c[10]), tl.join(c[6], c[14]))
        d = tl.join(tl.join(c[1], c[9]), tl.join(c[5], c[13]))
        e = tl.join(tl.join(c[3], c[11]), tl.join(c[7], c[15]))
        joined = tl.join(tl.join(a, b), tl.join(d, e))
    return tl.reshape(joined, (x.shape[0], x.shape[1], WIDTH))
