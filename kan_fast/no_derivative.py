"""A value whose derivative is not defined, and which says so instead of dropping it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function

from kan_fast.errors import DerivativeError


class _Refusing(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, message: str, *_depends_on: Tensor) -> Tensor:
        ctx.message = message
        return value.clone()

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        raise DerivativeError(ctx.message)


def without_derivative(value: Tensor, message: str, *depends_on: Tensor) -> Tensor:
    """`value`; a gradient through it raises DerivativeError with the message.

    torch's `once_differentiable` looks at the incoming gradient alone: a second derivative with
    respect to x would be dropped without a word.

    Args:
        depends_on: the tensors whose gradients would be asked for.
    """
    return _Refusing.apply(value, message, *depends_on)
