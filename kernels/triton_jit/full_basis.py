"""Values of families whose functions are all active everywhere (docs/math.md, section 9).

A product of torch's contracts them, a block at a time; numbers of families as in
`kernels/cpu/full.h`.
"""

import triton
import triton.language as tl

from .activation import activation

GAUSSIAN_RBF = tl.constexpr(0)
CHEBYSHEV = tl.constexpr(1)
ACTIVATION_ALONE = tl.constexpr(2)


@triton.jit
def _gaussian(x, centers, g, INV_WIDTH: tl.constexpr, DERIVATIVE: tl.constexpr):
    """(-1 / w)^d H_d(s) exp(-s^2) of function g, s = (x - u_g) / w; see gaussian_rbf.h."""
    s = (x - tl.load(centers + g).to(x.dtype)) * INV_WIDTH
    previous = s * 0
    hermite = previous + 1
    for n in tl.static_range(DERIVATIVE):
        following = 2 * s * hermite - 2 * n * previous
        previous = hermite * -INV_WIDTH
        hermite = following * -INV_WIDTH
    return hermite * tl.exp(-s * s)


@triton.jit
def _constant_polynomial(t, DERIVATIVE: tl.constexpr):
    """Derivatives 0..DERIVATIVE of T_0 = 1."""
    found = (t * 0 + 1,)
    for _ in tl.static_range(DERIVATIVE):
        found = found + (t * 0,)
    return found


@triton.jit
def _linear_polynomial(t, DERIVATIVE: tl.constexpr):
    """Derivatives 0..DERIVATIVE of T_1 = t."""
    found = (t,)
    for d in tl.static_range(1, DERIVATIVE + 1):
        found = found + (t * 0 + (1 if d == 1 else 0),)
    return found


@triton.jit
def _chebyshev_step(t, at, before, lower, ORDER: tl.constexpr):
    """T_{n+1}^(d) = 2 t T_n^(d) + 2 d T_n^(d-1) - T_{n-1}^(d)."""
    return 2 * t * at - before + 2 * ORDER * lower


@triton.jit
def _next_value(t, at, before, DERIVATIVE: tl.constexpr):
    """Derivatives 0..DERIVATIVE of the following polynomial, from those of the last two."""
    found = (_chebyshev_step(t, at[0], before[0], at[0], 0),)
    for d in tl.static_range(1, DERIVATIVE + 1):
        found = found + (_chebyshev_step(t, at[d], before[d], at[d - 1], d),)
    return found


@triton.jit
def full_values(
    x, x_row, x_column, v, v_row, v_column, centers, phi, phi_row,
    num_pairs, in_features,
    FAMILY: tl.constexpr, ACTIVATION: tl.constexpr, NUM_BASIS: tl.constexpr,
    INV_WIDTH: tl.constexpr, DERIVATIVE: tl.constexpr, HAS_V: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """phi[r, i, g] = v[r,i] b_g^(d)(x[r,i]) (eq. 13), BLOCK pairs of a row and an input a program.

    phi: `[rows, in_features * NUM_BASIS]`, in the dtype of the product. INV_WIDTH is a constant:
    as an argument it would be rounded to float32.
    """
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = pair < num_pairs
    r = pair // in_features
    i = pair % in_features
    at = tl.load(x + r * x_row + i * x_column, mask=real, other=0.0)
    factor = at * 0 + 1
    if HAS_V:
        factor = tl.load(v + r * v_row + i * v_column, mask=real, other=0.0)
    place = phi + r * phi_row + i * NUM_BASIS
    if FAMILY == CHEBYSHEV:
        before = _constant_polynomial(at, DERIVATIVE)
        now = _linear_polynomial(at, DERIVATIVE)
        for g in tl.static_range(NUM_BASIS):
            tl.store(place + g, (before[DERIVATIVE] * factor).to(phi.dtype.element_ty), mask=real)
            following = _next_value(at, now, before, DERIVATIVE)
            before = now
            now = following
    elif FAMILY == ACTIVATION_ALONE:
        value = activation(at, ACTIVATION, DERIVATIVE) * factor
        tl.store(place, value.to(phi.dtype.element_ty), mask=real)
    else:
        for g in tl.static_range(NUM_BASIS):
            value = _gaussian(at, centers, g, INV_WIDTH, DERIVATIVE) * factor
            tl.store(place + g, value.to(phi.dtype.element_ty), mask=real)


@triton.jit
def full_fold(
    x, x_row, x_column, phi, phi_row, centers, z, z_row,
    num_pairs, in_features,
    FAMILY: tl.constexpr, ACTIVATION: tl.constexpr, NUM_BASIS: tl.constexpr,
    INV_WIDTH: tl.constexpr, DERIVATIVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """z[r,i] = sum_g phi[r, i, g] b_g^(d)(x[r,i]) (eq. 14), BLOCK pairs a program.

    z: rows contiguous.
    """
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = pair < num_pairs
    r = pair // in_features
    i = pair % in_features
    at = tl.load(x + r * x_row + i * x_column, mask=real, other=0.0)
    place = phi + r * phi_row + i * NUM_BASIS
    found = at * 0
    if FAMILY == CHEBYSHEV:
        before = _constant_polynomial(at, DERIVATIVE)
        now = _linear_polynomial(at, DERIVATIVE)
        for g in tl.static_range(NUM_BASIS):
            cotangent = tl.load(place + g, mask=real, other=0.0).to(at.dtype)
            found += cotangent * before[DERIVATIVE]
            following = _next_value(at, now, before, DERIVATIVE)
            before = now
            now = following
    elif FAMILY == ACTIVATION_ALONE:
        cotangent = tl.load(place, mask=real, other=0.0).to(at.dtype)
        found = cotangent * activation(at, ACTIVATION, DERIVATIVE)
    else:
        for g in tl.static_range(NUM_BASIS):
            cotangent = tl.load(place + g, mask=real, other=0.0).to(at.dtype)
            found += cotangent * _gaussian(at, centers, g, INV_WIDTH, DERIVATIVE)
    tl.store(z + r * z_row + i, found, mask=real)
