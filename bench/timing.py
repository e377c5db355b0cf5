"""How a step is timed (`kan_fast.cli.timing`), and what else is measured of it."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kan_fast.cli.timing import forward, interleaved, peak_bytes, ratio, step

__all__ = [
    "footprint",
    "forward",
    "interleaved",
    "operators",
    "peak_bytes",
    "ratio",
    "saved_bytes",
    "step",
]


class _Operators(TorchDispatchMode):
    """Counts operators that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def saved_bytes(model: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes saved for the backward beside parameters."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    # a compiled model leaves its hooks alone
    @torch.compiler.disable
    def keep(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = model(x)
    # `y` lives until here, so that no address is used twice
    total = sum(saved.values())
    del y
    return total


def operators(model: torch.nn.Module, x: torch.Tensor) -> int:
    """Operators of a step that are not views."""
    with _Operators() as found:
        step(model, x)
    return found.count


def footprint(model: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Bytes saved for the backward, peak extra bytes of a step, operators."""
    return {
        "saved_bytes": saved_bytes(model, x),
        "peak_bytes": peak_bytes(lambda: step(model, x)),
        "operators": operators(model, x),
    }
