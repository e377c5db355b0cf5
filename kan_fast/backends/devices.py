"""What launches on a GPU need of torch."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def on_device(x: Tensor) -> contextlib.AbstractContextManager:
    """Makes the device of `x` current, as launches need it."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def target_of(x: Tensor) -> tuple[bool, int]:
    """Whether the CUDA kernels are emulated on the CPU, else torch's current stream."""
    if not x.is_cuda:
        return True, 0
    return False, torch.cuda.current_stream(x.device).cuda_stream
