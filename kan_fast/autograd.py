"""The contractions as autograd Functions: closed under differentiation.

Every backward is made of the same three contractions, one derivative of the basis up
(docs/math.md, section 5). Without `create_graph` a backward is one fused native call; with it, the
same formulas are built from the Functions below, so they can be differentiated again.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from kan_fast.spec import BasisSpec


class Kernels(Protocol):
    """The contractions of a backend; not differentiable themselves."""

    def out(self, x, v, knots, spline_weight, spline_scaler, base_weight, basis, derivative):
        """y of eq. 5."""

    def in_weight(
        self, x, u, v, knots, spline_weight, spline_scaler, base_weight, basis,
        derivative_in, derivative_weight, need,
    ):  # fmt: skip
        """z of eq. 6 and S of eq. 7, unfolded to the parameters."""

    def weight(self, x, u, v, knots, weight_shape, with_base, basis, derivative):
        """S of eq. 7."""


def _unfold(
    spline: Tensor | None,
    base: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    need: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Differentiable form of the unfolding: gradients of the parameters from S."""
    grad_weight = grad_scaler = None
    if need[0]:
        grad_weight = spline if spline_scaler is None else spline * spline_scaler.unsqueeze(-1)
    if need[1]:
        grad_scaler = (spline * spline_weight).sum(-1)
    return grad_weight, grad_scaler, base if need[2] else None


def _weight_gradients(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    kernels: Kernels,
    derivative: int,
    need: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of spline_weight, spline_scaler and base_weight; differentiable when asked."""
    if not any(need):
        return None, None, None
    if not torch.is_grad_enabled():
        return kernels.in_weight(
            x, u, v, knots, spline_weight, spline_scaler, base_weight, basis, 0, derivative,
            (False, *need),
        )[1:]  # fmt: skip
    with_base = base_weight is not None
    spline, base = Weight.apply(
        x, u, v, knots, spline_weight.shape, with_base, basis, kernels, derivative
    )
    return _unfold(spline, base, spline_weight, spline_scaler, need)


def _weight_needs(ctx: Any, at: int, node: int) -> tuple[bool, bool, bool]:
    """Which parameters this pass of the engine wants gradients of.

    `needs_input_grad` says what requires a gradient, and torch.autograd.grad(u, x) wants none of
    the parameters': a physics-informed loss would spend half its time on them.

    Args:
        at: index of spline_weight among the arguments of forward; scaler and base weight follow.
        node: the same among the arguments that are tensors.
    """
    need = ctx.needs_input_grad[at : at + 3]
    if not any(need):
        return need
    for function, _ in ctx.next_functions[node:]:
        if function is None:
            continue
        try:
            return need if torch._C._will_engine_execute_node(function) else (False,) * 3
        except RuntimeError:  # torch does not say so of a leaf that it was asked for
            return need
    return need


def _in(x: Tensor, u: Tensor, *layer: Any) -> Tensor:
    """z of eq. 6; `layer` is (knots, weight, scaler, base_weight, basis, kernels, derivative)."""
    if torch.is_grad_enabled():
        return In.apply(x, u, *layer)
    *parameters, kernels, derivative = layer
    return kernels.in_weight(
        x, u, None, *parameters, derivative, 0, (True, False, False, False)
    )[0]  # fmt: skip


def _out(x: Tensor, v: Tensor | None, *layer: Any) -> Tensor:
    """y of eq. 5."""
    if torch.is_grad_enabled():
        return Out.apply(x, v, *layer)
    *parameters, kernels, derivative = layer
    return kernels.out(x, v, *parameters, derivative)


class _Contraction(Function):
    """A Function without the microseconds that `Function.apply` spends on torch.func.

    The planner never sends a torch.func transform here.
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        return super(Function, cls).apply(*args)


class Out(_Contraction):
    """y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]). The layer itself has d = 0, no v."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor | None,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        kernels: Kernels,
        derivative: int,
    ) -> Tensor:
        # x is the only activation that is kept
        ctx.save_for_backward(x, v, knots, spline_weight, spline_scaler, base_weight)
        ctx.basis = basis
        ctx.kernels = kernels
        ctx.derivative = derivative
        return kernels.out(
            x, v, knots, spline_weight, spline_scaler, base_weight, basis, derivative
        )

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, v, knots, weight, scaler, base = ctx.saved_tensors
        basis, kernels, d = ctx.basis, ctx.kernels, ctx.derivative
        need = ctx.needs_input_grad
        need_weights = _weight_needs(ctx, 3, 2 if v is None else 3)
        layer = (knots, weight, scaler, base, basis, kernels)
        grad_x = grad_v = None
        if not torch.is_grad_enabled():
            grad_x, *grads = kernels.in_weight(
                x, u, v, knots, weight, scaler, base, basis, d + 1, d, (need[0], *need_weights)
            )
        else:
            if need[0]:
                grad_x = _in(x, u, *layer, d + 1)
            grads = _weight_gradients(x, u, v, *layer, d, need_weights)
        if v is not None:
            if need[0]:
                grad_x = grad_x * v
            if need[1]:
                grad_v = _in(x, u, *layer, d)
        return grad_x, grad_v, None, *grads, None, None, None


class In(_Contraction):
    """z[r,i] = sum_o u[r,o] sum_g W[o,i,g] b_g^(d)(x[r,i])."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        u: Tensor,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        kernels: Kernels,
        derivative: int,
    ) -> Tensor:
        ctx.save_for_backward(x, u, knots, spline_weight, spline_scaler, base_weight)
        ctx.basis = basis
        ctx.kernels = kernels
        ctx.derivative = derivative
        return kernels.in_weight(
            x, u, None, knots, spline_weight, spline_scaler, base_weight, basis, derivative, 0,
            (True, False, False, False),
        )[0]  # fmt: skip

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, u, knots, weight, scaler, base = ctx.saved_tensors
        basis, kernels, d = ctx.basis, ctx.kernels, ctx.derivative
        need = ctx.needs_input_grad
        layer = (knots, weight, scaler, base, basis, kernels)
        need_weights = _weight_needs(ctx, 3, 3)
        # d z[r,i] / d x[r,i] is the same sum one derivative up
        if torch.is_grad_enabled():
            grad_x = q * _in(x, u, *layer, d + 1) if need[0] else None
            grads = _weight_gradients(x, u, q, *layer, d, need_weights)
        else:
            grad_x, *grads = kernels.in_weight(
                x, u, q, knots, weight, scaler, base, basis, d + 1, d, (need[0], *need_weights)
            )
            if need[0]:
                grad_x.mul_(q)
        grad_u = _out(x, q, *layer, d) if need[1] else None
        return grad_x, grad_u, None, *grads, None, None, None


class Weight(_Contraction):
    """S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d)(x[r,i]), as its spline part and its base part."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        weight_shape: torch.Size,
        with_base: bool,
        basis: BasisSpec,
        kernels: Kernels,
        derivative: int,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(x, u, v, knots)
        ctx.with_base = with_base
        ctx.basis = basis
        ctx.kernels = kernels
        ctx.derivative = derivative
        return kernels.weight(x, u, v, knots, weight_shape, with_base, basis, derivative)

    @staticmethod
    def backward(ctx: Any, spline: Tensor, base: Tensor | None) -> tuple[Tensor | None, ...]:
        x, u, v, knots = ctx.saved_tensors
        basis, kernels, d = ctx.basis, ctx.kernels, ctx.derivative
        need = ctx.needs_input_grad
        # the cotangent of S stands where the weights stand
        layer = (knots, spline, None, base if ctx.with_base else None, basis, kernels)
        grad_x = grad_u = grad_v = None
        if need[0]:
            grad_x = _in(x, u, *layer, d + 1)
            if v is not None:
                grad_x = grad_x * v
        if need[1]:
            grad_u = _out(x, v, *layer, d)
        if need[2]:
            grad_v = _in(x, u, *layer, d)
        return grad_x, grad_u, grad_v, None, None, None, None, None, None
