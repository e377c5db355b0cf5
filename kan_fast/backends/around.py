"""What may stand around the functions of a layer that is evaluated in full, as in fast-kan."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Norm(NamedTuple):
    """Layer normalisation of x before the functions; `weight` and `bias` `[in_features]`,
    contiguous, or None."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    #: `[2, stride]`, see `statistics_for`: `out_around` writes it, the backward reads it
    statistics: Tensor


class Base(NamedTuple):
    """A base branch on inputs of its own; `weight` `[out_features, in_features]`, contiguous."""

    x: Tensor
    weight: Tensor
    activation: str


class Around(NamedTuple):
    """What stands around the functions of a layer; None for what is not there."""

    norm: Norm | None = None
    base: Base | None = None
    #: `[out_features]`, contiguous
    bias: Tensor | None = None


class NeedAround(NamedTuple):
    """Which gradients of a layer with what stands around it to compute."""

    x: bool
    weight: bool
    base_x: bool = False
    base_weight: bool = False
    norm: bool = False


class GradientsAround(NamedTuple):
    """Those gradients; None where not asked for."""

    x: Tensor | None
    weight: Tensor | None
    base_x: Tensor | None = None
    base_weight: Tensor | None = None
    #: `[2, in_features]`, of the norm's weight and bias
    norm: Tensor | None = None
