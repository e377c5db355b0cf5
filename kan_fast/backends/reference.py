"""The oracle as a backend: runs everywhere, at the speed of plain torch operators."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import reference
from kan_fast.machine import Machine
from kan_fast.spec import BasisSpec, Problem

name = "reference"
takes_narrow_inputs = False


def why_not(problem: Problem, facts: Machine) -> str | None:
    """Never refuses."""
    return None


def kan_linear(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    basis: BasisSpec,
    product_dtype: torch.dtype | None = None,
) -> Tensor:
    """The layer on `x` of shape `[rows, in_features]`."""
    return reference.kan_linear(x, knots, spline_weight, spline_scaler, base_weight, basis)
