"""The contractions of families that are evaluated in full by the native kernels, on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.around import Around, Base, GradientsAround, NeedAround, Norm
from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import Gradients, Layer
from kan_fast.spec import ACTIVATIONS, FULL_FAMILIES

_NOTHING = Around()


def _readable(weight: Tensor) -> Tensor:
    """The weights where the kernels can read them: functions next to each other, and no gaps, with
    outputs first (ours) or inputs first (ChebyKAN's)."""
    if weight.is_contiguous() or weight.transpose(0, 1).is_contiguous():
        return weight
    return weight.contiguous()


def _norm_numbers(norm: Norm | None) -> tuple:
    if norm is None:
        return (0, 0, 0.0, 0, 0)
    weight, bias, eps, statistics = norm
    return (
        0 if weight is None else weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        eps,
        statistics.data_ptr(),
        statistics.shape[1],
    )


def _base_numbers(base: Base | None) -> tuple[int, ...]:
    if base is None:
        return (0, 0, 0, 0, 0, 0, 0)
    x, weight, activation = base
    return (
        ACTIVATIONS[activation],
        x.data_ptr(),
        *x.stride(),
        weight.data_ptr(),
        *weight.stride(),
    )


def _layer_numbers(
    x: Tensor, v: Tensor | None, layer: Layer, norm: Norm | None
) -> tuple[tuple, tuple[Tensor | None, Tensor]]:
    """The leading arguments of both kernels, and the tensors that must outlive the call."""
    knots, weight, _, _, basis = layer
    centers = None if knots is None else knots.contiguous()
    weight = _readable(weight)
    numbers = (
        x.dtype is torch.float64,
        *x.shape,
        weight.shape[0],
        FULL_FAMILIES[basis.family],
        basis.num_basis,
        ACTIVATIONS[basis.activation],
        basis.width,
        0 if centers is None else centers.data_ptr(),
        x.data_ptr(),
        *x.stride(),
        *((0, 0, 0) if v is None else (v.data_ptr(), *v.stride())),
        weight.data_ptr(),
        *weight.stride()[:2],
        *_norm_numbers(norm),
    )
    return numbers, (centers, weight)


class NativeFullKernels(Kernels):
    """In float32 and float64; one call of `kan_fast._C` each, the base branch and the
    normalisation of fast-kan's layer included."""

    takes_around = True
    #: that of the weight, in whose order the kernels write
    weight_format = torch.preserve_format

    def statistics_for(self, x: Tensor) -> Tensor:
        """Memory for mean and 1 / deviation of every row."""
        return x.new_empty((2, -(-x.shape[0] // 64) * 64))

    def out_around(self, x: Tensor, layer: Layer, around: Around) -> Tensor:
        """eq. 15: `y` of eq. 5 for the normalised x, plus base branch and bias."""
        y = x.new_empty((x.shape[0], layer.weight.shape[0]))
        self._launch(x, None, layer, 0, around, y)
        return y

    def in_weight_around(
        self, x: Tensor, u: Tensor, layer: Layer, around: Around, need: NeedAround
    ) -> GradientsAround:
        """All gradients in one pass. Where `base.x` is `x`, the gradient of x has both parts."""
        contiguous = torch.contiguous_format
        norm, base, _ = around
        z = grad = base_z = base_grad = grad_norm = None
        if need.x:
            z = torch.empty_like(x, memory_format=contiguous)
        if need.weight:
            grad = torch.empty_like(layer.weight, memory_format=self.weight_format)
        if base is not None and need.base_x and base.x is not x:
            base_z = torch.empty_like(base.x, memory_format=contiguous)
        if base is not None and need.base_weight:
            base_grad = torch.empty_like(base.weight)
        if norm is not None and need.norm:
            grad_norm = x.new_empty((2, x.shape[1]))
        found = GradientsAround(z, grad, base_z, base_grad, grad_norm)
        derivative_in = 1 if need.x or grad_norm is not None else 0
        self._launch_gradients(x, u, None, layer, (derivative_in, 0), around, found)
        return found

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        self._launch(x, v, layer, derivative, _NOTHING, y)

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        z, weight, _, _ = found
        self._launch_gradients(x, u, v, layer, derivatives, _NOTHING, (z, weight, None, None, None))

    @staticmethod
    def _launch(
        x: Tensor, v: Tensor | None, layer: Layer, derivative: int, around: Around, y: Tensor
    ) -> None:
        norm, base, bias = around
        numbers, _alive = _layer_numbers(x, v, layer, norm)
        machine.extension().full_out(
            *numbers, derivative, y.data_ptr(), *_base_numbers(base),
            0 if bias is None else bias.data_ptr(),
        )  # fmt: skip

    @staticmethod
    def _launch_gradients(
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        around: Around,
        found: tuple[Tensor | None, ...],
    ) -> None:
        """`found` has the fields of `GradientsAround`."""
        norm, base, _ = around
        numbers, (_centers, weight) = _layer_numbers(x, v, layer, norm)
        z, grad, base_z, base_grad, grad_norm = found
        target = grad
        if grad is not None and grad.stride() != weight.stride():
            target = torch.empty_like(weight)  # kernels write in the order of the weights
        base_z = z if base is not None and base.x is x else base_z
        machine.extension().full_in_weight(
            *numbers,
            *derivatives,
            u.data_ptr(),
            *u.stride(),
            0 if z is None else z.data_ptr(),
            0 if target is None else target.data_ptr(),
            0 if grad_norm is None else grad_norm.data_ptr(),
            *_base_numbers(base),
            0 if base_z is None else base_z.data_ptr(),
            0 if base_grad is None else base_grad.data_ptr(),
        )
        if target is not grad:
            grad.copy_(target)
