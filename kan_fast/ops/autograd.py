"""The contractions as autograd Functions: closed under differentiation.

Every backward is made of the same three contractions, one derivative of the basis up
(docs/math.md, section 5). Without `create_graph` a backward is one fused native call; with it, the
same formulas are built from the Functions below, so they can be differentiated again. Tangents are
contractions as well, and a batch of `vmap` is more rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan_fast import torch_internals
from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import Layer, as_layer
from kan_fast.ops.transforms import (
    Contraction,
    in_transform,
    keep,
    one_by_one,
    saved_tensors,
    sum_of,
    unfold,
    vmap_over_rows,
    weight_tangents,
)
from kan_fast.spec import FullBasis, WindowedBasis


def is_direct() -> bool:
    """Whether a backward may call the kernels itself: nobody differentiates or batches it."""
    return not torch.is_grad_enabled() and not in_transform()


def weight_gradients(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    layer: Layer,
    kernels: Kernels,
    derivative: int,
    need: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of weight, scaler and base; differentiable when asked."""
    if not any(need):
        return None, None, None
    if is_direct():
        return kernels.in_weight(x, u, v, layer, 0, derivative, (False, *need))[1:]
    knots, weight, scaler, base, basis = layer
    spline, grad_base = Weight.apply(
        x, u, v, knots, weight.shape, base is not None, basis, kernels, derivative
    )
    return unfold(spline, grad_base, weight, scaler, need)


def engine_takes(next_functions: tuple) -> bool:
    """Whether this pass of the engine may compute a gradient of one of some nodes: those of tensors
    that require one. False is the rare answer, so that a training step asks once."""
    is_refused = False
    for function, _ in next_functions:
        if function is not None:
            if torch_internals.will_execute(function) is not False:
                return True
            is_refused = True
    return not is_refused


def _weight_needs(ctx: Any, at: int, node: int) -> tuple[bool, bool, bool]:
    """Of which parameters this pass of the engine takes gradients.

    `needs_input_grad` says what requires a gradient, and torch.autograd.grad(u, x) takes none of
    the parameters': a physics-informed loss would spend half its time on them.

    Args:
        at: index of the weight among the arguments of forward; scaler and base follow.
        node: the same among the arguments that are tensors.
    """
    need = ctx.needs_input_grad[at : at + 3]
    if not any(need) or in_transform():
        return need
    return need if engine_takes(ctx.next_functions[node:]) else (False,) * 3


_INPUT_ALONE = (True, False, False, False)


def input_gradient(x: Tensor, u: Tensor, layer: Layer, kernels: Kernels, derivative: int) -> Tensor:
    """z of eq. 6."""
    if not is_direct():
        return In.apply(x, u, *layer, kernels, derivative)
    return kernels.in_weight(x, u, None, layer, derivative, 0, _INPUT_ALONE)[0]


def _out(x: Tensor, v: Tensor | None, layer: Layer, kernels: Kernels, derivative: int) -> Tensor:
    """y of eq. 5."""
    if not is_direct():
        return Out.apply(x, v, *layer, kernels, derivative)
    return kernels.out(x, v, layer, derivative)


class Out(Contraction):
    """y[r,o] = sum_i v[r,i] sum_g W[o,i,g] b_g^(d)(x[r,i]). The layer itself has d = 0, no v."""

    @staticmethod
    def forward(
        x: Tensor,
        v: Tensor | None,
        knots: Tensor | None,
        weight: Tensor,
        scaler: Tensor | None,
        base: Tensor | None,
        basis: WindowedBasis | FullBasis,
        kernels: Kernels,
        derivative: int,
    ) -> Tensor:
        # x is the only activation that is kept
        return kernels.out(x, v, as_layer((knots, weight, scaler, base, basis)), derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        keep(ctx, inputs[:6], inputs[6:])

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, v, *tensors = saved_tensors(ctx)
        basis, kernels, d = ctx.rest
        need = ctx.needs_input_grad
        need_weights = _weight_needs(ctx, 3, 2 if v is None else 3)
        layer = as_layer((*tensors, basis))
        grad_x = grad_v = None
        if is_direct():
            grad_x, *grads = kernels.in_weight(x, u, v, layer, d + 1, d, (need[0], *need_weights))
        else:
            if need[0]:
                grad_x = input_gradient(x, u, layer, kernels, d + 1)
            grads = weight_gradients(x, u, v, layer, kernels, d, need_weights)
        if v is not None:
            if need[0]:
                grad_x = grad_x * v
            if need[1]:
                grad_v = input_gradient(x, u, layer, kernels, d)
        return grad_x, grad_v, None, *grads, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_t, v_t, knots_t, weight_t, scaler_t, base_t, *_rest: Any) -> Tensor:
        x, v, knots, weight, scaler, base = saved_tensors(ctx)
        basis, kernels, d = ctx.rest
        rest = (knots, weight, scaler, base, basis, kernels)
        terms = []
        if x_t is not None:
            terms.append(Out.apply(x, x_t if v is None else x_t * v, *rest, d + 1))
        if v is not None and v_t is not None:
            terms.append(Out.apply(x, v_t, *rest, d))
        if weight_t is not None:
            tangents = weight_tangents(weight, scaler, weight_t, scaler_t, base_t)
            terms.append(Out.apply(x, v, knots, tangents[0], None, tangents[1], basis, kernels, d))
        return sum_of(terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        return vmap_over_rows(Out, info, in_dims, args)


class In(Contraction):
    """z[r,i] = sum_o u[r,o] sum_g W[o,i,g] b_g^(d)(x[r,i])."""

    @staticmethod
    def forward(
        x: Tensor,
        u: Tensor,
        knots: Tensor | None,
        weight: Tensor,
        scaler: Tensor | None,
        base: Tensor | None,
        basis: WindowedBasis | FullBasis,
        kernels: Kernels,
        derivative: int,
    ) -> Tensor:
        layer = as_layer((knots, weight, scaler, base, basis))
        return kernels.in_weight(x, u, None, layer, derivative, 0, _INPUT_ALONE)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        keep(ctx, inputs[:6], inputs[6:])

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        x, u, *tensors = saved_tensors(ctx)
        basis, kernels, d = ctx.rest
        need = ctx.needs_input_grad
        layer = as_layer((*tensors, basis))
        need_weights = _weight_needs(ctx, 3, 3)
        # d z[r,i] / d x[r,i] is the same sum one derivative up
        if is_direct():
            grad_x, *grads = kernels.in_weight(x, u, q, layer, d + 1, d, (need[0], *need_weights))
            if need[0]:
                grad_x.mul_(q)
        else:
            grad_x = q * input_gradient(x, u, layer, kernels, d + 1) if need[0] else None
            grads = weight_gradients(x, u, q, layer, kernels, d, need_weights)
        grad_u = _out(x, q, layer, kernels, d) if need[1] else None
        return grad_x, grad_u, None, *grads, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_t, u_t, knots_t, weight_t, scaler_t, base_t, *_rest: Any) -> Tensor:
        x, u, knots, weight, scaler, base = saved_tensors(ctx)
        basis, kernels, d = ctx.rest
        rest = (knots, weight, scaler, base, basis, kernels)
        terms = []
        if x_t is not None:
            terms.append(x_t * In.apply(x, u, *rest, d + 1))
        if u_t is not None:
            terms.append(In.apply(x, u_t, *rest, d))
        if weight_t is not None:
            tangents = weight_tangents(weight, scaler, weight_t, scaler_t, base_t)
            terms.append(In.apply(x, u, knots, tangents[0], None, tangents[1], basis, kernels, d))
        return sum_of(terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        return vmap_over_rows(In, info, in_dims, args)


class Weight(Contraction):
    """S[o,i,g] = sum_r u[r,o] v[r,i] b_g^(d)(x[r,i]), as its spline part and its base part."""

    @staticmethod
    def forward(
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        weight_shape: torch.Size,
        with_base: bool,
        basis: WindowedBasis | FullBasis,
        kernels: Kernels,
        derivative: int,
    ) -> tuple[Tensor, Tensor | None]:
        return kernels.weight(x, u, v, knots, weight_shape, with_base, basis, derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        keep(ctx, inputs[:4], inputs[4:])

    @staticmethod
    def backward(ctx: Any, spline: Tensor, base: Tensor | None) -> tuple[Tensor | None, ...]:
        x, u, v, knots = saved_tensors(ctx)
        _shape, with_base, basis, kernels, d = ctx.rest
        need = ctx.needs_input_grad
        # the cotangent of S stands where the weights stand
        layer = as_layer((knots, spline, None, base if with_base else None, basis))
        grad_x = grad_u = grad_v = None
        if need[0]:
            grad_x = input_gradient(x, u, layer, kernels, d + 1)
            if v is not None:
                grad_x = grad_x * v
        if need[1]:
            grad_u = _out(x, v, layer, kernels, d)
        if need[2]:
            grad_v = input_gradient(x, u, layer, kernels, d)
        return grad_x, grad_u, grad_v, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_t, u_t, v_t, *_rest: Any) -> tuple[Tensor, Tensor | None]:
        x, u, v, knots = saved_tensors(ctx)
        *static, d = ctx.rest
        terms = []
        if x_t is not None:
            terms.append(Weight.apply(x, u, x_t if v is None else x_t * v, knots, *static, d + 1))
        if u_t is not None:
            terms.append(Weight.apply(x, u_t, v, knots, *static, d))
        if v is not None and v_t is not None:
            terms.append(Weight.apply(x, u, v_t, knots, *static, d))
        splines, bases = zip(*terms, strict=True)
        return sum_of(list(splines)), sum_of([b for b in bases if b is not None])

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> tuple:
        # a sum over rows for each element: no rows to share
        found = one_by_one(Weight, info, in_dims, args)
        splines, bases = zip(*found, strict=True)
        with_base = bases[0] is not None
        stacked = torch.stack(splines), torch.stack(bases) if with_base else None
        return stacked, (0, 0 if with_base else None)
