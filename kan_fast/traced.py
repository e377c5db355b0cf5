"""The layer inside a graph that torch.compile traces or torch.export exports."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kan_fast import envs, machine, reference
from kan_fast.ops import kan_linear_op
from kan_fast.spec import MAX_SPLINE_ORDER, BasisSpec

#: what the planner would find out, as constants that a traced graph may hold
_HAS_KERNELS = machine.facts().extension is not None
_KERNEL_DTYPES = (torch.float32, torch.float64)
_HALF_DTYPES = (torch.bfloat16, torch.float16)


def runs_kernel(x: Tensor, spline_order: int, backend: str = "auto") -> bool:
    """Whether the layer becomes an operator of the graph that is being traced."""
    wanted = envs.BACKEND if backend == "auto" else backend
    return (
        _HAS_KERNELS
        and x.device.type == "cpu"
        and x.dtype in (*_KERNEL_DTYPES, *_HALF_DTYPES)
        and spline_order <= MAX_SPLINE_ORDER
        and wanted != "reference"
        and not torch.compiler.is_exporting()
        and not torch._C._are_functorch_transforms_active()
        # the operator has no tangent
        and forward_ad._current_level < 0
    )


def kan_linear(
    layer: tuple[Tensor | None, ...], spline_order: int, activation: str, backend: str
) -> Tensor:
    """The layer inside a graph: one operator, or the oracle's where no kernel runs or to export."""
    x = layer[0]
    if not runs_kernel(x, spline_order, backend):
        return reference.kan_linear(*layer, BasisSpec(spline_order, activation))
    if x.dtype in _KERNEL_DTYPES:
        return kan_linear_op(*layer, spline_order, activation)
    wide = [t if t is None else t.float() for t in layer]
    return kan_linear_op(*wide, spline_order, activation).to(x.dtype)
