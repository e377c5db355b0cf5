"""A layer of a full basis with its normalisation and its base branch as one Function, one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast.backends.around import Around, Base, NeedAround, Norm
from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import as_layer
from kan_fast.backends.plain import lacks_address
from kan_fast.ops.autograd import input_gradient, is_direct, weight_gradients
from kan_fast.ops.transforms import check_kinds, kinds_of
from kan_fast.spec import FullBasis


class Parts(NamedTuple):
    """What a layer is made of, besides tensors."""

    basis: FullBasis
    #: of the base branch; None where there is none
    activation: str | None
    #: of the normalisation; None where there is none
    eps: float | None
    kernels: Kernels


class LayerWithAround(Function):
    """y = sum_i sum_g W[o,i,g] b_g(n(x)[r,i]) + sum_i V[o,i] act(base_x[r,i]) + bias[o], where n is
    layer normalisation (docs/math.md, eq. 15).

    `base_x` None is `x`. Forward mode and vmap are not its business: callers take the parts one by
    one then.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        centers: Tensor | None,
        weight: Tensor,
        base_x: Tensor | None,
        base_weight: Tensor | None,
        bias: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        parts: Parts,
    ) -> Tensor:
        kernels = parts.kernels
        # views of parameters are not contiguous where those are not
        base_weight = None if base_weight is None else base_weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        norm_weight = None if norm_weight is None else norm_weight.contiguous()
        norm_bias = None if norm_bias is None else norm_bias.contiguous()
        statistics = None if parts.eps is None else kernels.statistics_for(x)
        kept = (x, centers, weight, base_x, base_weight, norm_weight, norm_bias, statistics)
        ctx.save_for_backward(*kept)
        ctx.kinds = kinds_of(kept)
        ctx.parts = parts
        layer = as_layer((centers, weight, None, None, parts.basis))
        around = _around(parts, x, base_x, base_weight, bias, norm_weight, norm_bias, statistics)
        return kernels.out_around(x, layer, around)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        check_kinds(ctx.kinds, kept)
        x, centers, weight, base_x, base_weight, norm_weight, norm_bias, statistics = kept
        parts, need = ctx.parts, ctx.needs_input_grad
        grad_bias = u.sum(0) if need[5] else None
        layer, kernels = as_layer((centers, weight, None, None, parts.basis)), parts.kernels
        if is_direct() and not lacks_address(u):
            around = _around(
                parts, x, base_x, base_weight, None, norm_weight, norm_bias, statistics
            )
            needs = NeedAround(need[0], need[2], need[3], need[4], need[6] or need[7])
            found = kernels.in_weight_around(x, u, layer, around, needs)
            grad_norm = (None, None) if found.norm is None else found.norm.unbind()
            return (
                found.x, None, found.weight, found.base_x, found.base_weight, grad_bias,
                grad_norm[0] if need[6] else None, grad_norm[1] if need[7] else None, None,
            )  # fmt: skip
        at, scale, standard = x, None, None
        if parts.eps is not None:
            scale, standard = _standard(x, parts.eps)
            at = standard if norm_weight is None else standard * norm_weight
            at = at if norm_bias is None else at + norm_bias
        grad_weight = weight_gradients(at, u, None, layer, kernels, 0, (need[2], False, False))[0]
        z = None
        if need[0] or need[6] or need[7]:
            z = input_gradient(at, u, layer, kernels, 1)
        grad_norm = (None, None)
        if parts.eps is not None and z is not None:
            grad_norm = (z * standard).sum(0), z.sum(0)
            z = z if norm_weight is None else z * norm_weight
            z = scale * (z - _mean(z) - standard * _mean(z * standard))
        base_z = grad_base = None
        if parts.activation is not None:
            base_basis = FullBasis("activation", 1, activation=parts.activation)
            base = as_layer((None, base_weight.unsqueeze(-1), None, None, base_basis))
            base_at = x if base_x is None else base_x
            if need[0] if base_x is None else need[3]:
                base_z = input_gradient(base_at, u, base, kernels, 1)
            wanted = (need[4], False, False)
            grad_base = weight_gradients(base_at, u, None, base, kernels, 0, wanted)[0]
            grad_base = None if grad_base is None else grad_base.squeeze(-1)
            if base_x is None and base_z is not None:
                z, base_z = z + base_z, None
        return (
            z if need[0] else None, None, grad_weight, base_z, grad_base, grad_bias,
            grad_norm[0] if need[6] else None, grad_norm[1] if need[7] else None, None,
        )  # fmt: skip


def _around(
    parts: Parts,
    x: Tensor,
    base_x: Tensor | None,
    base_weight: Tensor | None,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    statistics: Tensor | None,
) -> Around:
    """Normalisation, base branch and bias as the kernels take them."""
    norm = base = None
    if parts.eps is not None:
        norm = Norm(norm_weight, norm_bias, parts.eps, statistics)
    if parts.activation is not None:
        base = Base(x if base_x is None else base_x, base_weight, parts.activation)
    return Around(norm, base, bias)


def _mean(z: Tensor) -> Tensor:
    return z.mean(-1, keepdim=True)


def _standard(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """1 / deviation of every row, and x with mean 0 and deviation 1: differentiable."""
    deviation = x - _mean(x)
    scale = torch.rsqrt(_mean(deviation.square()) + eps)
    return scale, deviation * scale
