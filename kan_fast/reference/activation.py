"""Base activations and their derivatives, by automatic differentiation of torch's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "identity": lambda x: x,
    "zero": lambda x: x * 0,
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
}


def activation(name: str, x: Tensor, derivative: int = 0) -> Tensor:
    """`derivative`-th derivative of the activation `name` at `x`, element by element.

    Args:
        name: a key of `FUNCTIONS`.
        x: any shape and float dtype.
        derivative: >= 0; the result is differentiable for derivative 0 only.
    """
    if derivative == 0:
        return FUNCTIONS[name](x)
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        value = FUNCTIONS[name](at)
        for n in range(derivative):
            if not value.requires_grad:
                return torch.zeros_like(x)
            (value,) = torch.autograd.grad(
                value.sum(), at, create_graph=n + 1 < derivative, materialize_grads=True
            )
    return value.detach()
