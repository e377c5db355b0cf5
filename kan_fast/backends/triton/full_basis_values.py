"""Values of full bases on CUDA tensors: launches of `kernels/triton_jit/full_basis.py`."""

from __future__ import annotations

from torch import Tensor

from kan_fast.backends.devices import on_device
from kan_fast.backends.triton.arguments import jit
from kan_fast.backends.triton.tiles import ceil_div
from kan_fast.spec import ACTIVATIONS, FULL_FAMILIES, FullBasis

#: numbers of a block: 16 MB of float32, which the second-level cache of an A100 or H100 holds
BLOCK = 2**22
_PAIRS = 256


def _constants(basis: FullBasis, derivative: int) -> dict[str, int]:
    return dict(
        FAMILY=FULL_FAMILIES[basis.family], ACTIVATION=ACTIVATIONS[basis.activation],
        NUM_BASIS=basis.num_basis, INV_WIDTH=1 / basis.width, DERIVATIVE=derivative,
        BLOCK=_PAIRS, num_warps=4,
    )  # fmt: skip


def values(
    x: Tensor, v: Tensor | None, centers: Tensor | None, basis: FullBasis, derivative: int,
    phi: Tensor,
) -> None:  # fmt: skip
    """eq. 13: phi[r, i, g] = v[r,i] b_g^(d)(x[r,i]); `phi` is `[rows, in_features * num_basis]`
    with contiguous rows."""
    pairs = x.numel()
    with on_device(x):
        jit().full_values[(ceil_div(pairs, _PAIRS),)](
            x, *x.stride(), x if v is None else v, *(x if v is None else v).stride(),
            x if centers is None else centers.contiguous(), phi, phi.stride(0),
            pairs, x.shape[1], HAS_V=v is not None, **_constants(basis, derivative),
        )  # fmt: skip


def fold(
    x: Tensor, phi: Tensor, centers: Tensor | None, basis: FullBasis, derivative: int, z: Tensor
) -> None:
    """z[r,i] = sum_g phi[r, i, g] b_g^(d)(x[r,i]), eq. 14; `z` has contiguous rows."""
    pairs = x.numel()
    with on_device(x):
        jit().full_fold[(ceil_div(pairs, _PAIRS),)](
            x, *x.stride(), phi, phi.stride(0), x if centers is None else centers.contiguous(),
            z, z.stride(0), pairs, x.shape[1], **_constants(basis, derivative),
        )  # fmt: skip
