"""Values of dense families by the native kernels, on CPU tensors."""

from __future__ import annotations

from torch import Tensor, float64

from kan_fast import machine
from kan_fast.spec import DENSE_FAMILIES, DenseBasis

#: numbers of a block: 2 MB of float32, which a core's share of the caches holds
block = 2**19


def values(
    x: Tensor, v: Tensor | None, centers: Tensor | None, basis: DenseBasis, derivative: int,
    phi: Tensor,
) -> None:  # fmt: skip
    """eq. 13; `phi` is `[rows, in_features * num_basis]`."""
    _call(x, v, centers, basis, derivative, phi, None)


def fold(
    x: Tensor, phi: Tensor, centers: Tensor | None, basis: DenseBasis, derivative: int, z: Tensor
) -> None:
    """eq. 14; `z` has contiguous rows."""
    _call(x, None, centers, basis, derivative, phi, z)


def _call(
    x: Tensor, v: Tensor | None, centers: Tensor | None, basis: DenseBasis, derivative: int,
    phi: Tensor, z: Tensor | None,
) -> None:  # fmt: skip
    centers = None if centers is None else centers.contiguous()
    machine.extension().dense(
        x.dtype is float64,
        *x.shape,
        DENSE_FAMILIES[basis.family],
        basis.num_basis,
        derivative,
        basis.width,
        0 if centers is None else centers.data_ptr(),
        x.data_ptr(),
        *x.stride(),
        *((0, 0, 0) if v is None else (v.data_ptr(), *v.stride())),
        phi.data_ptr(),
        phi.stride(0),
        *((0, 0) if z is None else (z.data_ptr(), z.stride(0))),
    )
