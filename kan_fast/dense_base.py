"""A dense layer and its base branch as one Function: the sum of two layers from one call."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor
from torch.autograd import Function

from kan_fast.autograd import input_gradient, is_direct, weight_gradients
from kan_fast.backends import batched
from kan_fast.spec import DenseBasis


class OutWithBase(Function):
    """y = sum_i sum_g W[o,i,g] b_g(x[r,i]) + sum_i V[o,i] act(base_x[r,i]) + bias[o].

    Forward mode and vmap are not its business: callers take the two layers one by one then.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        centers: Tensor | None,
        weight: Tensor,
        base_x: Tensor,
        base_weight: Tensor,
        bias: Tensor | None,
        basis: DenseBasis,
        base_basis: DenseBasis,
        kernels: ModuleType,
    ) -> Tensor:
        # views of parameters are not contiguous where those are not
        base_weight = base_weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        ctx.save_for_backward(x, centers, weight, base_x, base_weight)
        ctx.rest = basis, base_basis, kernels
        base = kernels.Base(base_x, base_weight, base_basis.activation)
        return kernels.out(x, None, centers, weight, None, None, basis, 0, base, bias)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, centers, weight, base_x, base_weight = ctx.saved_tensors
        basis, base_basis, kernels = ctx.rest
        need = ctx.needs_input_grad
        if is_direct() and not batched.is_batched(u):
            base = kernels.Base(base_x, base_weight, base_basis.activation)
            needs = (need[0], need[2], need[3], need[4])
            found = kernels.in_weight_with_base(x, u, centers, weight, basis, base, needs)
        else:
            layer = (centers, weight, None, None, basis, kernels)
            base = (None, base_weight.unsqueeze(-1), None, None, base_basis, kernels)
            grad_base = weight_gradients(base_x, u, None, *base, 0, (need[4], False, False))[0]
            found = (
                input_gradient(x, u, *layer, 1) if need[0] else None,
                weight_gradients(x, u, None, *layer, 0, (need[2], False, False))[0],
                input_gradient(base_x, u, *base, 1) if need[3] else None,
                None if grad_base is None else grad_base.squeeze(-1),
            )
        grad_bias = u.sum(0) if need[5] else None
        return found[0], None, found[1], found[2], found[3], grad_bias, None, None, None
