"""Which backend runs a call: the facts on which the planner decides, found out once and kept."""

from __future__ import annotations

import functools
import logging
import warnings

import torch
from torch import Tensor

from kan_fast import envs, machine, torch_internals
from kan_fast.backends import BACKENDS
from kan_fast.backends.planner import choose
from kan_fast.ops import compiled
from kan_fast.spec import Plan, Problem, WindowedBasis

_log = logging.getLogger("kan_fast")


@functools.cache
def basis_of(spline_order: int, activation: str) -> WindowedBasis:
    """The same object for the same arguments."""
    return WindowedBasis(spline_order, activation)


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
    recorder = torch_internals.recorder()
    if recorder is not None:
        return recorder
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
        return compiled.backend_of(x, spline_order, backend) == "triton"
    plan = plan_for(x, spline_weight, spline_order, backend)
    return BACKENDS[plan.backend].takes_narrow_inputs


def has_kernel(x: Tensor, spline_weight: Tensor, spline_order: int) -> bool:
    """Whether a layer on an input like `x` runs a kernel, rather than plain torch operators."""
    if torch.compiler.is_compiling():
        return compiled.backend_of(x, spline_order) is not None
    return plan_for(x, spline_weight, spline_order).backend != "reference"
