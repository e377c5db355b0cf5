"""The base branch: activations and their derivatives (docs/math.md, section 3).

Numbers as in `kernels/include/kan_fast/activation.h`.
"""

import triton
import triton.language as tl

from .bspline import reciprocal

SILU = tl.constexpr(0)
IDENTITY = tl.constexpr(1)
ZERO = tl.constexpr(2)
RELU = tl.constexpr(3)
GELU = tl.constexpr(4)
TANH = tl.constexpr(5)


@triton.jit
def _logistic_derivative(s, N: tl.constexpr):
    """n-th derivative of the logistic function from its value s."""
    q = s * (1 - s)
    r = 1 - 2 * s
    if N == 0:
        d = s
    elif N == 1:
        d = q
    elif N == 2:
        d = q * r
    elif N == 3:
        d = q * (1 - 6 * q)
    elif N == 4:
        d = q * r * (1 - 12 * q)
    else:
        d = q * (1 - 30 * q + 120 * q * q)
    return d


@triton.jit
def _tanh(x):
    """tanh to the last digits: through exp where it is not small, else a continued fraction."""
    size = tl.abs(x)
    e = tl.exp(-2 * size)
    large = (1 - e) * reciprocal(1 + e)
    square = x * x
    fraction = square * 0 + 17.0
    for n in tl.static_range(8):
        fraction = (15.0 - 2 * n) + square / fraction
    return tl.where(size < 0.5, x / fraction, tl.where(x < 0, -large, large))


@triton.jit
def _tanh_derivative(x, N: tl.constexpr):
    t = _tanh(x)
    u = 1 - t * t
    if N == 0:
        d = t
    elif N == 1:
        d = u
    elif N == 2:
        d = -2 * t * u
    elif N == 3:
        d = u * (6 * t * t - 2)
    elif N == 4:
        d = t * u * (16 - 24 * t * t)
    else:
        d = u * (120 * t * t * t * t - 120 * t * t + 16)
    return d


@triton.jit
def _normal_derivative(x, N: tl.constexpr):
    """n-th derivative of the normal distribution function: Hermite polynomials times density."""
    if N == 0:
        d = 0.5 + 0.5 * tl.erf(x * 0.70710678118654752440)
    else:
        d = 0.39894228040143267794 * tl.exp(-0.5 * x * x)
        if N == 2:
            d = -x * d
        elif N == 3:
            d = (x * x - 1) * d
        elif N == 4:
            d = (3 - x * x) * x * d
        elif N == 5:
            d = ((x * x - 6) * x * x + 3) * d
    return d


@triton.jit
def activation(x, KIND: tl.constexpr, N: tl.constexpr):
    """n-th derivative of the activation, 0 <= N <= 5; NaN where x is NaN."""
    if KIND == SILU:
        s = reciprocal(1 + tl.exp(-x))
        d = x * _logistic_derivative(s, N)
        if N > 0:
            d += N * _logistic_derivative(s, N - 1)
    elif KIND == GELU:
        d = x * _normal_derivative(x, N)
        if N > 0:
            d += N * _normal_derivative(x, N - 1)
    elif KIND == TANH:
        d = _tanh_derivative(x, N)
    elif KIND == RELU:
        if N == 0:
            d = tl.where(x <= 0, 0.0, x)
        elif N == 1:
            d = tl.where(x > 0, 1.0, x - x)
        else:
            d = x - x
    elif KIND == IDENTITY:
        if N == 0:
            d = x
        elif N == 1:
            d = x - x + 1.0
        else:
            d = x - x
    else:
        d = x - x
    return d.to(x.dtype)
