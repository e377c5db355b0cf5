"""Whether a foreign layer computes what we think it does: its own forward in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def differs(
    module: nn.Module,
    inputs: Callable[[Any], Tensor],
    expected: Callable[[Any, Tensor], Tensor],
    library: str,
) -> str | None:
    """A sentence if a layer's forward differs from a formula, or cannot be run; None if not.

    Args:
        inputs: rows to try, from a copy of the layer in float64 on the CPU.
        expected: what the library computes of the copy and those rows.
        library: its name, for the sentence.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            twin = copy.deepcopy(module).cpu().double()
            twin.__dict__.pop("_kan_fast", None)
            x = inputs(twin)
            forward = type(twin).forward
            results = []
            for training in (True, False):
                twin.train(training)
                results.append(forward(twin, x.clone()))
            wanted = expected(twin, x)
    except Exception as error:  # anything a foreign forward raises is a refusal
        return f"its forward cannot be checked: {type(error).__name__}: {error}"
    for result in results:
        if not isinstance(result, Tensor) or result.shape != wanted.shape:
            return "its forward returns something else than one tensor [..., out_features]"
        scale = wanted.abs().max().clamp_min(1e-30)
        error = float((result - wanted).abs().max() / scale)
        if not error <= 1e-10:
            return (
                f"its forward differs from {library}: largest difference {error:.1e} of the "
                "largest output, in float64"
            )
    return None
