"""`kan_linear`: check, plan, apply."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kan_fast import envs, machine, torch_internals
from kan_fast.backends import BACKENDS
from kan_fast.backends.planner import choose
from kan_fast.ops import compiled as traced
from kan_fast.ops.checks import check, fits
from kan_fast.spec import ACTIVATIONS, BasisSpec, Plan, Problem

_log = logging.getLogger("kan_fast")


@functools.cache
def basis_of(spline_order: int, activation: str) -> BasisSpec:
    """The same object for the same arguments."""
    return BasisSpec(spline_order, activation)


@functools.lru_cache(maxsize=4096)
def _plan(
    device: str,
    dtype: torch.dtype,
    spline_order: int,
    transform: str | None,
    wanted: str,
    capability: tuple[int, int] | None = None,
) -> Plan:
    if device == "cpu":  # a GPU's kernels are Triton's, with or without the extension
        _say_once_if_slow()
    name = str(dtype).removeprefix("torch.")
    problem = Problem(device, name, spline_order, transform, capability, wanted != "auto")
    plan = choose(problem, machine.facts(), BACKENDS, wanted)
    if device == "cuda" and plan.backend == "reference" and wanted == "auto" and not transform:
        # a plan is made once for each kind of problem, so this is said once
        reasons = dict(plan.refusals)
        _log.warning(
            "kan_fast: %s layers with spline_order %d run plain torch operators on %s: %s",
            name, spline_order, device, reasons["triton"],
        )  # fmt: skip
    return plan


@functools.cache
def _say_once_if_slow() -> None:
    facts = machine.facts()
    if facts.extension is None and envs.BACKEND == "auto":
        warnings.warn(
            "kan_fast: no native kernels, layers run at the speed of plain torch "
            f"({facts.extension_error}). Install a C++17 compiler and reinstall kan-fast",
            RuntimeWarning,
            stacklevel=2,
        )


def _transform(x: Tensor) -> str | None:
    """What is going on that only plain torch operators get right, or None."""
    if type(x) is not Tensor and not isinstance(x, torch.nn.Parameter):
        return f"the tensor subclass {type(x).__name__}"
    if torch_internals.tracing_state() is not None:
        return "torch.jit.trace"
    if torch_internals.is_exporting():
        return "torch.export"
    if torch_internals.is_make_fx():
        # a kernel's result would be a constant of the graph
        return "make_fx"
    if torch_internals.in_transform() and torch_internals.forward_levels() > 1:
        # torch loses the tangent of a tangent of a custom Function without a word
        return "forward mode inside forward mode"
    return None


def plain(device: str = "cpu") -> bool:
    """Whether nothing but a call is going on: no tracing, no transform, no autocast."""
    return not (
        torch.compiler.is_compiling()
        or torch_internals.tracing_state() is not None
        or torch_internals.dispatch_modes()
        or torch_internals.in_transform()
        or torch_internals.in_forward_mode()
        or torch.is_autocast_enabled(device)
    )


def autocast_enabled(device: str) -> bool:
    """Whether autocast is on; devices without it, such as meta, never have it on."""
    try:
        return torch.is_autocast_enabled(device)
    except RuntimeError:
        return False


def plan_for(x: Tensor, spline_weight: Tensor, spline_order: int, backend: str = "auto") -> Plan:
    """The plan for a layer on an input like `x`: which backend, and why not the others."""
    device, dtype = x.device.type, x.dtype
    if dtype is not torch.float64 and autocast_enabled(device):
        dtype = spline_weight.dtype
    wanted = envs.BACKEND if backend == "auto" else backend
    transform = _transform(x)
    # a fake tensor may be on a device that is not there
    capability = machine.gpu(x.device).capability if device == "cuda" and not transform else None
    return _plan(device, dtype, spline_order, transform, wanted, capability)


def takes_narrow_inputs(x: Tensor, spline_weight: Tensor, spline_order: int, backend: str) -> bool:
    """Whether the layer's backend takes x in another dtype than the weights."""
    if torch.compiler.is_compiling():
        return traced.backend_of(x, spline_order, backend) == "triton"
    plan = plan_for(x, spline_weight, spline_order, backend)
    return BACKENDS[plan.backend].takes_narrow_inputs


def has_kernel(x: Tensor, spline_weight: Tensor, spline_order: int) -> bool:
    """Whether a layer on an input like `x` runs a kernel, rather than plain torch operators."""
    if torch.compiler.is_compiling():
        return traced.backend_of(x, spline_order) is not None
    return plan_for(x, spline_weight, spline_order).backend != "reference"


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
        backend: "auto", "native", "triton" or "reference".

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
        # torch runs what the kernels do not know
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
    layer = (rows, knots, spline_weight, spline_scaler, base_weight)
    if torch.compiler.is_compiling():
        y = traced.kan_linear(layer, spline_order, base_activation, backend, product_dtype)
    else:
        plan = plan_for(x, spline_weight, spline_order, backend)
        basis = basis_of(spline_order, base_activation)
        y = BACKENDS[plan.backend].kan_linear(*layer, basis, product_dtype)
    if len(shape) != 2:
        y = y.reshape(*shape[:-1], spline_weight.shape[0])
    return y if beside is None else y + beside
