"""The contractions of splines by the native kernels, on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.base import Kernels
from kan_fast.backends.crossing import address, layer_numbers
from kan_fast.backends.layer import Gradients, Layer
from kan_fast.spec import ACTIVATIONS, WindowedBasis


class NativeKernels(Kernels):
    """In float32 and float64; one call of `kan_fast._C` each."""

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        numbers, _alive = layer_numbers(x, v, layer)
        machine.extension().contract_out(*numbers, derivative, y.data_ptr())

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        numbers, _alive = layer_numbers(x, v, layer)
        z, weight, scaler, base = found
        machine.extension().contract_in_weight(
            *numbers,
            *derivatives,
            u.data_ptr(),
            *u.stride(),
            0 if z is None else z.data_ptr(),
            0 if weight is None else weight.data_ptr(),
            0 if scaler is None else scaler.data_ptr(),
            0 if base is None else base.data_ptr(),
        )


def gram(
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: WindowedBasis,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """eq. 9 for the functions of two grids, or with a cotangent the sum over its entries.

    Returns:
        `[in_features, num_basis + 1, other num_basis + 1]` in float64, or the shape of `x`.
    """
    first, second = (k.contiguous() for k in knots)
    rows, in_features = x.shape
    sizes = [k.shape[1] - basis.spline_order for k in (first, second)]
    found = x.new_empty((in_features, *sizes), dtype=torch.float64) if cotangent is None else None
    z = None if cotangent is None else torch.empty_like(x, memory_format=torch.contiguous_format)
    machine.extension().gram(
        x.dtype is torch.float64,
        rows,
        in_features,
        basis.spline_order,
        ACTIVATIONS[basis.activation],
        first.data_ptr(),
        first.shape[1],
        second.data_ptr(),
        second.shape[1],
        *derivatives,
        x.data_ptr(),
        *x.stride(),
        address(found),
        address(cotangent),
        address(z),
    )
    return found if z is None else z
