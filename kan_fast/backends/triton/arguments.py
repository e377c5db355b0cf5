"""What every launch of a Triton kernel needs: the kernels, a layer's tensors and their strides."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kan_fast.backends.layer import Layer
from kan_fast.spec import ACTIVATIONS


@functools.cache
def jit() -> SimpleNamespace:
    """The kernels; Triton is imported with the first layer that runs on it, and not before."""
    import triton.language as tl

    from kan_fast._triton_jit import contract_in_weight, contract_out, full_basis, gather, gram

    kernels = (
        contract_out.contract_out,
        contract_in_weight.contract_in_weight,
        contract_in_weight.unfold,
        full_basis.full_values,
        full_basis.full_fold,
        gather.pack,
        gather.gather_out,
        gather.gather_in,
        gram.gram,
        gram.gram_gradient,
    )
    for kernel in kernels:
        # Triton's key of a kernel on disk depends on which others have been asked for theirs: in
        # one order always, so that a process finds what another one has compiled
        getattr(kernel, "cache_key", None)  # the interpreter has none
    return SimpleNamespace(
        **{kernel.__name__: kernel for kernel in kernels},
        dtypes={torch.float32: tl.float32, torch.float64: tl.float64},
    )


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


class LayerArguments:
    """A layer as the kernels take it, and what of the launch depends on it alone."""

    def __init__(self, layer: Layer) -> None:
        knots, weight, scaler, base, basis = layer
        self.knots = knots.contiguous()
        self.weight = weight.contiguous()
        self.scaler = _contiguous(scaler)
        self.base = _contiguous(base)
        self.out_features, self.in_features, self.num_basis = weight.shape
        self.order = basis.spline_order
        self.activation = ACTIVATIONS["zero" if base is None else basis.activation]
        self.steps = bisection_steps(knots.shape[1])

    def variant(self, v: Tensor | None) -> tuple[int, bool, bool, bool]:
        """What of it is compiled in, as `plan.py` reads it."""
        return self.activation, v is not None, self.scaler is not None, self.base is not None

    @property
    def parameters(self) -> tuple[Tensor | None, ...]:
        """weight, scaler and base weight; an absent one is never read."""
        return self.weight, self.scaler, self.base


def bisection_steps(num_knots: int) -> int:
    """Halvings from the largest power of two that is at most the number of cells."""
    return (num_knots - 1).bit_length() - 1


def strides(t: Tensor | None) -> tuple[Any, ...]:
    """The tensor and its strides; of an absent one, none that could need a variant of its own."""
    return (None, 16, 1) if t is None else (t, *t.stride())
