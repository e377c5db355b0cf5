"""The contractions by plain operators, where the numbers of a tensor do not lie at its address.

The older vmap (`is_grads_batched`) has no rule for einsum. All of this is rare enough for torch.
"""

from __future__ import annotations

from torch import Tensor

from kan_fast import reference
from kan_fast.backends.layer import Gradients, Layer, Need
from kan_fast.spec import FullBasis, WindowedBasis
from kan_fast.torch_internals import is_legacy_batched, is_zero_tensor


def lacks_address(*tensors: Tensor | None) -> bool:
    """Whether kernels cannot read one of them: a batch of the older vmap, a view such as
    `z.conj().imag` that stands for the negative of its memory, or zeros without memory."""
    for t in tensors:
        if t is not None and (is_legacy_batched(t) or t.is_neg() or is_zero_tensor(t)):
            return True
    return False


def _features(
    x: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    basis: WindowedBasis | FullBasis,
    derivative: int,
) -> Tensor:
    of = reference.full_features if isinstance(basis, FullBasis) else reference.features
    phi = of(x.detach(), knots, basis, derivative)
    return phi if v is None else phi * v.unsqueeze(-1)


def _folded(layer: Layer) -> Tensor:
    _, weight, scaler, base, basis = layer
    return weight if isinstance(basis, FullBasis) else reference.fold(weight, scaler, base)


def _flat(t: Tensor) -> Tensor:
    """Inputs and functions as one dimension; the older vmap of torch 2.9 cannot flatten."""
    return t.reshape(t.shape[0], t.shape[1] * t.shape[2])


def out(x: Tensor, v: Tensor | None, layer: Layer, derivative: int) -> Tensor:
    """eq. 5."""
    folded = _folded(layer)
    phi = _features(x, v, layer.knots, layer.basis, derivative)
    return _flat(phi).mm(_flat(folded).t())


def in_weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    layer: Layer,
    derivative_in: int,
    derivative_weight: int,
    need: Need,
) -> Gradients:
    """eq. 6, and eq. 7 unfolded to the parameters; None where not needed."""
    knots, weight_, scaler, _, basis = layer
    folded = _folded(layer)
    phi = _features(x, None, knots, basis, derivative_in)
    z = (u.mm(_flat(folded)).reshape(phi.shape) * phi).sum(-1)
    spline, base = weight(x, u, v, knots, basis, derivative_weight)
    grad_weight = spline if scaler is None else spline * scaler.unsqueeze(-1)
    grad_scaler = (spline * weight_).sum(-1) if need[2] else None
    found = (z, grad_weight, grad_scaler, base)
    return tuple(t if wanted else None for t, wanted in zip(found, need, strict=True))


def weight(
    x: Tensor,
    u: Tensor,
    v: Tensor | None,
    knots: Tensor | None,
    basis: WindowedBasis | FullBasis,
    derivative: int,
) -> tuple[Tensor, Tensor | None]:
    """eq. 7: the spline part and the base part."""
    phi = _features(x, v, knots, basis, derivative)
    folded = u.t().mm(_flat(phi))
    folded = folded.reshape(folded.shape[0], *phi.shape[1:])
    if isinstance(basis, FullBasis):
        return folded, None
    return folded[..., :-1], folded[..., -1]
