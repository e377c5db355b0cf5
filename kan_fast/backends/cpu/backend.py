"""The native backend: kernels of `kan_fast._C` on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.backends.base import Backend
from kan_fast.backends.cpu.full_basis import NativeFullKernels
from kan_fast.backends.cpu.spline import NativeKernels, gram
from kan_fast.spec import Machine, Problem

_KERNELS = NativeKernels()
_FULL_KERNELS = NativeFullKernels()


class Native(Backend):
    """C++ kernels on CPU tensors. Products are never rounded to a narrower dtype."""

    name = "native"
    title = "native"
    device = "cpu"
    gram = staticmethod(gram)

    def missing(self, problem: Problem, facts: Machine) -> str | None:
        """The extension."""
        if facts.extension is None:
            return f"the native extension is not available ({facts.extension_error})"
        return None

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> NativeKernels:
        """Those of float32 and float64."""
        return _KERNELS

    def full_kernels(
        self, weight: Tensor, product_dtype: torch.dtype | None = None
    ) -> NativeFullKernels:
        """Those of float32 and float64."""
        return _FULL_KERNELS
