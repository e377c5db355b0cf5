"""The Gram matrix of the basis on CUDA tensors: launches of `kernels/triton_jit/gram.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.triton.arguments import bisection_steps
from kan_fast.backends.triton.tiles import LEAST_ROWS_A_SPLIT, ceil_div
from kan_fast.spec import ACTIVATIONS, WindowedBasis

_ROWS, _FUNCTIONS, _ROWS_A_GRADIENT = 32, 16, 128


def gram(
    kernels: object,
    x: Tensor,
    knots: tuple[Tensor, Tensor],
    basis: WindowedBasis,
    derivatives: tuple[int, int],
    cotangent: Tensor | None,
) -> Tensor:
    """See `native.gram`; `kernels` holds the compiled `gram` and `gram_gradient`."""
    first, second = (k.contiguous() for k in knots)
    rows, in_features = x.shape
    sizes = [k.shape[1] - basis.spline_order for k in (first, second)]
    shared = dict(
        ORDER=basis.spline_order, ACTIVATION=ACTIVATIONS[basis.activation],
        FIRST_KNOTS=first.shape[1], FIRST_STEPS=bisection_steps(first.shape[1]),
        SECOND_KNOTS=second.shape[1], SECOND_STEPS=bisection_steps(second.shape[1]),
    )  # fmt: skip
    if cotangent is not None:
        z = torch.empty_like(x, memory_format=torch.contiguous_format)
        if z.numel() > 0:
            kernels.gram_gradient[(in_features * ceil_div(rows, _ROWS_A_GRADIENT),)](
                x, *x.stride(), first, second, cotangent.contiguous(), z, rows, in_features,
                LEFT=derivatives[0], RIGHT=derivatives[1], **shared, BLOCK_R=_ROWS_A_GRADIENT,
                num_warps=4,
            )  # fmt: skip
        return z
    across = [ceil_div(n, _FUNCTIONS) for n in sizes]
    programs = max(1, in_features * across[0] * across[1])
    processors = machine.gpu(x.device).multiprocessors
    wanted = min(ceil_div(2 * processors, programs), rows // LEAST_ROWS_A_SPLIT)
    rows_a_split = ceil_div(max(rows, 1), max(1, wanted))
    parts = x.new_empty(
        (ceil_div(max(rows, 1), rows_a_split), in_features, *sizes), dtype=torch.float64
    )
    if in_features > 0:
        kernels.gram[(in_features, across[0] * across[1], parts.shape[0])](
            x, *x.stride(), first, second, parts, rows, in_features, rows_a_split, **shared,
            BLOCK_R=_ROWS, BLOCK_G=_FUNCTIONS, num_warps=4, num_stages=1,
        )  # fmt: skip
    return parts[0] if parts.shape[0] == 1 else parts.sum(0)
