"""The layer as operators of torch.library: what torch.compile puts into its graphs.

In eager mode the Functions of `autograd.py` call the kernels directly, since a registered operator
costs tens of microseconds; both routes run the same kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan_fast import torch_internals
from kan_fast.backends import BACKENDS
from kan_fast.backends.layer import Layer
from kan_fast.errors import DerivativeError
from kan_fast.spec import WindowedBasis


def _refuse_tangents() -> None:
    # torch.func.jvp of an operator gives a tangent of zeros without a word
    if torch_internals.in_forward_mode():
        raise DerivativeError(
            "kan_fast: the operator kan_fast::kan_linear has no forward-mode derivative, and one "
            "was asked for; call kan_fast.kan_linear or the layer instead"
        )


@torch.library.custom_op("kan_fast::kan_linear", mutates_args=())
def kan_linear_op(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
    activation: str,
    backend: str = "native",
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """`[rows, in_features]` to `[rows, out_features]`; arguments as in `kan_fast.kan_linear`.

    product_dtype: that of autocast, which is then the dtype of a result of the Triton kernels.
    """
    _refuse_tangents()
    basis = WindowedBasis(spline_order, activation)
    layer = Layer(knots, spline_weight, spline_scaler, base_weight, basis)
    return BACKENDS[backend].kernels(spline_weight, product_dtype).out(x, None, layer, 0)


@kan_linear_op.register_fake
def _(x: Tensor, knots: Tensor, spline_weight: Tensor, *rest: Any) -> Tensor:
    *_, backend, product_dtype = rest
    dtype = product_dtype if backend == "triton" else None
    return x.new_empty((x.shape[0], spline_weight.shape[0]), dtype=dtype)


@torch.library.custom_op("kan_fast::kan_linear_backward", mutates_args=())
def kan_linear_backward_op(
    x: Tensor,
    u: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
    activation: str,
    need: list[bool],
    backend: str = "native",
    product_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """Those gradients that `need` names, of x, spline_weight, spline_scaler and base_weight."""
    _refuse_tangents()
    basis = WindowedBasis(spline_order, activation)
    layer = Layer(knots, spline_weight, spline_scaler, base_weight, basis)
    kernels = BACKENDS[backend].kernels(spline_weight, product_dtype)
    grads = kernels.in_weight(x, u, None, layer, 1, 0, tuple(need))
    return [g for g in grads if g is not None]


@kan_linear_backward_op.register_fake
def _(
    x: Tensor,
    u: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
    activation: str,
    need: list[bool],
    *where: Any,
) -> list[Tensor]:
    tensors = (x, spline_weight, spline_scaler, base_weight)
    return [t.new_empty(t.shape) for t, wanted in zip(tensors, need, strict=True) if wanted]


def _keep(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.rest = inputs[5:]


def _backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    x, knots, weight, scaler, base = ctx.saved_tensors
    need = [ctx.needs_input_grad[n] for n in (0, 2, 3, 4)]
    spline_order, activation, *where = ctx.rest
    found = iter(
        kan_linear_backward_op(
            x, u, knots, weight, scaler, base, spline_order, activation, need, *where
        )
    )
    grad_x, *grads = [next(found) if wanted else None for wanted in need]
    return grad_x, None, *grads, None, None, None, None


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise DerivativeError(
        "kan_fast: a compiled layer has first derivatives only, and a second one was asked for; "
        "call the model outside torch.compile to differentiate again"
    )


kan_linear_op.register_autograd(_backward, setup_context=_keep)
kan_linear_backward_op.register_autograd(_no_second_derivative)
