"""`kan_linear`: check, plan, apply."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kan_fast import reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.base import Backend
from kan_fast.backends.devices import HALF
from kan_fast.backends.layer import Layer, as_layer
from kan_fast.ops import compiled
from kan_fast.ops.autograd import Out
from kan_fast.ops.checks import check, fits
from kan_fast.ops.plan import autocast_enabled, basis_of, plan_for, takes_narrow_inputs
from kan_fast.spec import ACTIVATIONS


def kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None = None,
    base_weight: Tensor | None = None,
    *,
    spline_order: int = 3,
    base_activation: str | Callable[[Tensor], Tensor] = "silu",
    backend: str = "auto",
) -> Tensor:
    """One KAN layer: a learnable spline and a weighted base activation on every edge.

    y[..., o] = sum_i base_weight[o,i] base(x[..., i])
              + spline_scaler[o,i] sum_g spline_weight[o,i,g] B_g(x[..., i])

    Args:
        x: `[..., in_features]`, float32 or float64, or bfloat16 or float16, which are computed in
            float32 and rounded once; any strides, zero rows allowed. Outside the extended knots
            the splines are zero; NaN or infinity in a row gives NaN in that row.
        knots: `[in_features, grid_size + 2 * spline_order + 1]`, finite, non-decreasing.
        spline_weight: `[out_features, in_features, grid_size + spline_order]`.
        spline_scaler: `[out_features, in_features]`, or None for ones.
        base_weight: `[out_features, in_features]`, or None for no base branch.
        spline_order: polynomial degree of the pieces, 0..7.
        base_activation: "silu", "identity", "zero", "relu", "gelu" or "tanh", which the kernels
            evaluate, or a callable, which torch evaluates beside them.
        backend: "auto", or one of `kan_fast.backends.BACKENDS`: "native", "triton", "cuda",
            "reference".

    Returns:
        `[..., out_features]` in the dtype of `x`, differentiable with respect to `x` and every
        weight, any number of times up to derivative 5 of the basis.

    Raises:
        ShapeError, DtypeError: inputs that do not fit together.
        ValueError: knots that are unsorted or not finite, where a kernel runs; an unknown
            activation or backend.
        BackendUnavailable: the backend asked for cannot run this.

    Source: Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756, eq. 2.10.
    """
    device = x.device.type
    if x.dtype is not torch.float64 and autocast_enabled(device):
        product_dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return _kan_linear(
                x, knots, spline_weight, spline_scaler, base_weight, spline_order, base_activation,
                backend, product_dtype,
            ).to(product_dtype)  # fmt: skip
    return _kan_linear(
        x, knots, spline_weight, spline_scaler, base_weight, spline_order, base_activation, backend
    )


def _kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
    base_activation: str | Callable[[Tensor], Tensor],
    backend: str,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """The layer outside autocast, which may have asked for `product_dtype`: coordinates stay in the
    precision of the knots."""
    dtype = x.dtype
    if product_dtype is not None and x.dtype.is_floating_point:
        dtype = spline_weight.dtype
        if not takes_narrow_inputs(x, spline_weight, spline_order, backend):
            x = x.to(dtype)
    columns = x.shape[-1] if x.dim() else -1
    if not fits(
        columns, dtype, x.device, knots, spline_weight, spline_scaler, base_weight, spline_order
    ):
        wide = x.to(dtype) if product_dtype is not None else x
        check(wide, knots, spline_weight, spline_scaler, base_weight, spline_order)
    beside = None
    if not isinstance(base_activation, str):
        # torch runs an activation that the kernels do not have
        if base_weight is not None:
            beside = F.linear(base_activation(x.to(dtype)), base_weight)
        base_activation, base_weight = "zero", None
    elif base_activation not in ACTIVATIONS:
        raise ValueError(
            f"kan_linear: base_activation must be one of {', '.join(ACTIVATIONS)} or a callable, "
            f"got {base_activation!r}"
        )
    shape = x.shape
    rows = x if len(shape) == 2 else x.reshape(math.prod(shape[:-1]), shape[-1])
    tensors = (knots, spline_weight, spline_scaler, base_weight)
    if torch.compiler.is_compiling():
        y = compiled.kan_linear(
            rows, tensors, spline_order, base_activation, backend, product_dtype
        )
    else:
        plan = plan_for(x, spline_weight, spline_order, backend)
        layer = as_layer((*tensors, basis_of(spline_order, base_activation)))
        y = run(BACKENDS[plan.backend], rows, layer, product_dtype)
    if len(shape) != 2:
        y = y.reshape(*shape[:-1], spline_weight.shape[0])
    return y if beside is None else y + beside


def run(
    backend: Backend, x: Tensor, layer: Layer, product_dtype: torch.dtype | None = None
) -> Tensor:
    """A layer on `x` `[rows, in_features]` by a backend that takes it, differentiable."""
    if backend.widens_half and x.dtype in HALF:
        wide = (None if t is None else t.float() for t in layer[:4])
        layer = Layer(*wide, layer.basis)
        return run(backend, x.float(), layer, product_dtype or x.dtype).to(x.dtype)
    kernels = backend.kernels(layer.weight, product_dtype)
    if kernels is None:
        return reference.kan_linear(x, *layer)
    if torch.is_grad_enabled():
        return Out.apply(x, None, *layer, kernels, 0)
    return kernels.out(x, None, layer, 0)
