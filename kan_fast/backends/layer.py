"""A layer, and its gradients, as contractions take and give them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from kan_fast.spec import FullBasis, WindowedBasis


class Layer(NamedTuple):
    """The tensors of a layer, all of one dtype and device, and which functions they weigh.

    Args:
        knots: `[in_features, num_knots]`; of a full basis, the centers `[num_basis]`
            of Gaussians, or None.
        weight: `[out_features, in_features, num_basis]`.
        scaler: `[out_features, in_features]`, factors of splines; None for ones.
        base: `[out_features, in_features]`, weights of the activation; None for no base branch.
        basis: the functions.
    """

    knots: Tensor | None
    weight: Tensor
    scaler: Tensor | None
    base: Tensor | None
    basis: WindowedBasis | FullBasis


#: a layer of its five parts, in C: a NamedTuple's own constructor is a Python function, and a small
#: layer's step makes three
as_layer: Callable[[Iterable[Any]], Layer] = functools.partial(tuple.__new__, Layer)

#: of x, weight, scaler and base; None where not asked for
Gradients: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]"
#: which of those to compute
Need: TypeAlias = "tuple[bool, bool, bool, bool]"


def layers_of(parameters: Sequence[Tensor | None], bases: Sequence[WindowedBasis]) -> list[Layer]:
    """The layers of a network whose tensors stand one after the other, as autograd takes them."""
    found, at = [], 0
    for basis in bases:
        found.append(as_layer((*parameters[at : at + 4], basis)))
        at += 4
    return found
