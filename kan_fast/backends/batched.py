"""The contractions by operators that torch's older vmap knows (`is_grads_batched`).

Its tensors have no address, and it has no rule for einsum; rare enough for plain torch to do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import reference
from kan_fast.spec import BasisSpec

_is_batched = torch._C._functorch.is_legacy_batchedtensor


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether one of them is a batch of the older vmap."""
    for t in tensors:
        if t is not None and _is_batched(t):
            return True
    return False


def _features(
    x: Tensor, v: Tensor | None, knots: Tensor, basis: BasisSpec, derivative: int
) -> Tensor:
    phi = reference.features(x.detach(), knots, basis, derivative)
    return phi if v is None else phi * v.unsqueeze(-1)


def out(
    x: Tensor, v: Tensor | None, knots: Tensor, weight: Tensor, basis: BasisSpec, derivative: int
) -> Tensor:
    """eq. 5 with the folded weight `[out_features, in_features, num_basis + 1]`."""
    phi = _features(x, v, knots, basis, derivative)
    flat = weight.reshape(weight.shape[0], -1)
    return phi.reshape(phi.shape[0], -1).mm(flat.t())


def contract_in(
    x: Tensor, u: Tensor, knots: Tensor, weight: Tensor, basis: BasisSpec, derivative: int
) -> Tensor:
    """eq. 6 with the folded weight."""
    phi = _features(x, None, knots, basis, derivative)
    return (u.mm(weight.reshape(weight.shape[0], -1)).reshape(phi.shape) * phi).sum(-1)


def weight(
    x: Tensor, u: Tensor, v: Tensor | None, knots: Tensor, basis: BasisSpec, derivative: int
) -> tuple[Tensor, Tensor]:
    """eq. 7: the spline part and the base part."""
    phi = _features(x, v, knots, basis, derivative)
    folded = u.t().mm(phi.reshape(phi.shape[0], -1))
    folded = folded.reshape(folded.shape[0], *phi.shape[1:])
    return folded[..., :-1], folded[..., -1]
