"""What launches on a GPU need of torch: the device, the stream and the precision of products."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

#: what torch.set_float32_matmul_precision asks for, as products of tensor cores
_PRECISIONS = {"highest": "tf32x3", "high": "tf32", "medium": "bf16"}
#: products of half precision, as tensor cores name them
HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def on_device(x: Tensor) -> contextlib.AbstractContextManager:
    """Makes the device of `x` current, as launches need it."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def target_of(x: Tensor) -> tuple[bool, int]:
    """Whether the CUDA kernels are emulated on the CPU, else torch's current stream."""
    if not x.is_cuda:
        return True, 0
    return False, torch.cuda.current_stream(x.device).cuda_stream


def float32_products() -> str:
    """How torch has been asked to multiply float32 matrices, through either of its switches."""
    try:
        return _PRECISIONS[torch.get_float32_matmul_precision()]
    except RuntimeError:  # set through torch.backends, which the older switch cannot put in words
        wanted = torch.backends.cuda.matmul.fp32_precision
        if wanted == "none":
            wanted = torch.backends.fp32_precision
        return "tf32" if wanted == "tf32" else "tf32x3"
