"""The layer inside a graph that torch.compile traces or torch.export exports."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import envs, machine, reference, torch_internals
from kan_fast.ops.operators import kan_linear_op
from kan_fast.spec import MAX_SPLINE_ORDER, WindowedBasis

#: what the planner would find out, as constants that a traced graph may hold
_HAS_EXTENSION = machine.facts().extension is not None
_HAS_TRITON = machine.facts().triton is not None
_INTERPRETER = machine.facts().interpreter
_KERNEL_DTYPES = (torch.float32, torch.float64)
_HALF_DTYPES = (torch.bfloat16, torch.float16)


def backend_of(x: Tensor, spline_order: int, backend: str = "auto") -> str | None:
    """The backend whose operator the layer becomes in the graph that is being traced, or None."""
    wanted = envs.BACKEND if backend == "auto" else backend
    if (
        x.dtype not in (*_KERNEL_DTYPES, *_HALF_DTYPES)
        or spline_order > MAX_SPLINE_ORDER
        or torch_internals.is_exporting()
        or torch_internals.in_transform()
        # the operators have no tangents
        or torch_internals.in_forward_mode()
    ):
        return None
    device = x.device.type
    if _HAS_EXTENSION and device == "cpu" and wanted in ("auto", "native"):
        return "native"
    # of every GPU in the process alike: a graph holds no capability to look at
    if _HAS_TRITON and device == "cuda" and wanted in ("auto", "triton") and machine.all_capable():
        return "triton"
    if _HAS_TRITON and device == "cpu" and wanted == "triton" and _INTERPRETER:
        return "triton"
    return None


def kan_linear(
    x: Tensor,
    tensors: tuple[Tensor | None, ...],
    spline_order: int,
    activation: str,
    backend: str,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """The layer inside a graph: one operator, or the oracle's where no kernel runs or to export."""
    chosen = backend_of(x, spline_order, backend)
    if chosen is None:
        return reference.kan_linear(x, *tensors, WindowedBasis(spline_order, activation))
    function = spline_order, activation
    if chosen == "triton" or x.dtype in _KERNEL_DTYPES:
        return kan_linear_op(x, *tensors, *function, chosen, product_dtype)
    wide = [t if t is None else t.float() for t in (x, *tensors)]
    return kan_linear_op(*wide, *function, chosen, product_dtype or x.dtype).to(x.dtype)
