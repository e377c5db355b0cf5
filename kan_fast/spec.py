"""Frozen facts that the planner and the backends share. No tensors here."""

from __future__ import annotations

from dataclasses import dataclass

#: Base activations that kernels evaluate themselves, with the number the kernels know them by
#: (`kernels/include/kan_fast/activation.h`).
ACTIVATIONS: dict[str, int] = {
    "silu": 0,
    "identity": 1,
    "zero": 2,
    "relu": 3,
    "gelu": 4,
    "tanh": 5,
}

#: Highest polynomial degree of the spline pieces.
MAX_SPLINE_ORDER = 7
#: Highest derivative of the basis that is available.
MAX_DERIVATIVE = 5


@dataclass(frozen=True)
class BasisSpec:
    """Which fixed functions an edge combines.

    Args:
        spline_order: polynomial degree of the pieces, 0..7.
        activation: a key of `ACTIVATIONS`; the base branch.
    """

    spline_order: int
    activation: str = "silu"


#: Families whose functions are all active everywhere, with the number the kernels know them by
#: (`kernels/cpu/dense.h`).
DENSE_FAMILIES: dict[str, int] = {"gaussian_rbf": 0, "chebyshev": 1, "activation": 2}


@dataclass(frozen=True)
class DenseBasis:
    """The fixed functions of a family that is active everywhere.

    Args:
        family: a key of `DENSE_FAMILIES`.
        num_basis: functions of an input.
        width: of Gaussians, exp(-((x - u) / width)^2).
        activation: a key of `ACTIVATIONS`, the only function of the family "activation".
    """

    family: str
    num_basis: int
    width: float = 1.0
    activation: str = "zero"


@dataclass(frozen=True)
class Problem:
    """What a call asks for, as far as the choice of a backend depends on it.

    Args:
        device: type of the device, such as "cpu" or "cuda".
        dtype: of the weights.
        transform: what only plain torch operators get right, in words, or None.
        capability: compute capability of a CUDA device.
        asked: whether a backend was asked for by name.
    """

    device: str
    dtype: str
    spline_order: int
    transform: str | None = None
    capability: tuple[int, int] | None = None
    asked: bool = False


@dataclass(frozen=True)
class Plan:
    """The backend that will run a problem, and a sentence for each that will not."""

    backend: str
    refusals: tuple[tuple[str, str], ...] = ()
