"""A layer, and its gradients, as contractions take and give them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor

from kan_fast.spec import FullBasis, WindowedBasis


class Layer(NamedTuple):
    """The tensors of a layer, all of one dtype and device, and which functions they weigh.

    Args:
        knots: `[in_features, num_knots]`; of a full basis, centers `[num_basis]` or None.
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


#: of x, weight, scaler and base; None where not asked for
Gradients: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]"
#: which of those to compute
Need: TypeAlias = "tuple[bool, bool, bool, bool]"


def layers_of(
    parameters: tuple[Tensor | None, ...], bases: tuple[WindowedBasis, ...]
) -> list[Layer]:
    """The layers of a network whose tensors stand one after the other, as autograd takes them."""
    return [Layer(*parameters[4 * n : 4 * n + 4], basis) for n, basis in enumerate(bases)]
