"""The tolerance rule, in one place.

Truth is the oracle in float64 on the same stored parameters and knots. The yardstick is the
plain-torch layer in the dtype under test. A result passes if its error is at most twice the
yardstick's plus `factor * eps * max |truth|`.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: multiples of eps: values, and gradients of any order
VALUE_FACTOR = 4
GRADIENT_FACTOR = 16
#: eps of products on tensor cores that round their operands
TF32_EPS = 2.0**-11
BF16_EPS = 2.0**-8


def assert_within_tolerance(
    name: str,
    result: Tensor,
    truth: Tensor,
    yardstick: Tensor,
    factor: float,
    doubt: float = 0.0,
    eps: float | None = None,
) -> None:
    """Raises AssertionError, with largest, RMS and mean signed error, unless the rule holds.

    Args:
        name: what is compared; opens the message.
        result: in the dtype under test.
        truth: float64, same shape.
        yardstick: plain torch in the dtype under test, same shape.
        factor: `VALUE_FACTOR` or `GRADIENT_FACTOR`.
        doubt: how well the truth itself is known; matters for float64 results only.
        eps: of the products, where they are less precise than the result's dtype (`TF32_EPS`,
            `BF16_EPS`); that of the dtype where None.
    """
    assert result.shape == truth.shape == yardstick.shape, (
        f"{name}: shapes {tuple(result.shape)}, {tuple(truth.shape)}, {tuple(yardstick.shape)}"
    )
    if truth.numel() == 0:
        return
    assert bool(torch.isfinite(result).all()), f"{name}: not finite"
    error = result.double() - truth
    allowed = (yardstick.double() - truth).abs().max() * 2
    eps = torch.finfo(result.dtype).eps if eps is None else eps
    allowed = allowed + factor * eps * truth.abs().max() + doubt
    assert error.abs().max() <= allowed, (
        f"{name}: largest error {error.abs().max():.3e} is above {allowed:.3e}; RMS "
        f"{error.square().mean().sqrt():.3e}, mean {error.mean():+.3e}, largest truth "
        f"{truth.abs().max():.3e}"
    )
