"""The oracle as a backend: it runs everywhere, at the speed of plain torch operators."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.backends.base import Backend
from kan_fast.spec import Machine, Problem


class Reference(Backend):
    """Plain torch operators (`kan_fast/reference`)."""

    name = "reference"
    title = "reference"
    widens_half = False

    def why_not(self, problem: Problem, facts: Machine) -> str | None:
        """It never refuses."""
        return None

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> None:
        """It has none."""
        return None
