"""How layers cross into `kan_fast._C`: addresses, sizes and strides, as the native and the CUDA
kernels take them."""

from __future__ import annotations

from torch import Tensor, float64

from kan_fast.backends.layer import Layer
from kan_fast.spec import ACTIVATIONS

_NO_ACTIVATION = ACTIVATIONS["zero"]

# where every call of a small layer passes, addresses are written out instead of asked for by
# `address`: a call of a Python function costs as much as the rest of the line


def address(t: Tensor | None) -> int:
    """Of its first number; 0 for None, which kernels take as absent."""
    return 0 if t is None else t.data_ptr()


def strided(t: Tensor | None) -> tuple[int, int, int]:
    """Address and strides of a matrix."""
    return (0, 0, 0) if t is None else (t.data_ptr(), *t.stride())


def layer_numbers(
    x: Tensor, v: Tensor | None, layer: Layer
) -> tuple[tuple[int, ...], tuple[Tensor | None, ...]]:
    """The leading arguments of every kernel of splines (`csrc/layer.h`), and the tensors that must
    outlive the call."""
    knots, weight, scaler, base, basis = layer
    # kernels read parameters as contiguous; .contiguous() is free when they are
    knots = knots.contiguous()
    weight = weight.contiguous()
    if scaler is not None:
        scaler = scaler.contiguous()
    if base is not None:
        base = base.contiguous()
    x_row, x_col = x.stride()
    v_row, v_col = (0, 0) if v is None else v.stride()
    numbers = (
        x.dtype is float64,
        x.shape[0],
        x.shape[1],
        weight.shape[0],
        knots.shape[1],
        basis.spline_order,
        _NO_ACTIVATION if base is None else ACTIVATIONS[basis.activation],
        knots.data_ptr(),
        x.data_ptr(),
        x_row,
        x_col,
        0 if v is None else v.data_ptr(),
        v_row,
        v_col,
        weight.data_ptr(),
        0 if scaler is None else scaler.data_ptr(),
        0 if base is None else base.data_ptr(),
    )
    return numbers, (knots, weight, scaler, base)
