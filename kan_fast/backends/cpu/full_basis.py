"""The contractions of families that are evaluated in full by the native kernels, on CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.around import Around, Base, GradientsAround, NeedAround, Norm
from kan_fast.backends.base import Kernels
from kan_fast.backends.extension import address, strided
from kan_fast.backends.layer import Gradients, Layer, Need
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
    statistics = norm.statistics
    rest = statistics.data_ptr(), statistics.shape[1]
    return (address(norm.weight), address(norm.bias), norm.eps, *rest)


def _base_numbers(base: Base | None) -> tuple[int, ...]:
    if base is None:
        return (0, 0, 0, 0, 0, 0, 0)
    return (ACTIVATIONS[base.activation], *strided(base.x), *strided(base.weight))


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
        address(centers),
        *strided(x),
        *strided(v),
        weight.data_ptr(),
        *weight.stride()[:2],
        *_norm_numbers(norm),
    )
    return numbers, (centers, weight)


class NativeFullKernels(Kernels):
    """In float32 and float64; one call of `kan_fast._C` each, the base branch and the
    normalisation of fast-kan's layer included."""

    takes_around = True

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
        found = GradientsAround(
            *self._empty_gradients(x, layer, (need.x, need.weight, False, False))[:2]
        )
        if norm is not None and need.norm:
            found = found._replace(norm=x.new_empty((2, x.shape[1])))
        if base is not None and base.x is not x and need.base_x:
            found = found._replace(base_x=torch.empty_like(base.x, memory_format=contiguous))
        if base is not None and need.base_weight:
            found = found._replace(base_weight=torch.empty_like(base.weight))
        derivative_in = 1 if need.x or found.norm is not None else 0
        self._launch_gradients(x, u, None, layer, (derivative_in, 0), around, found)
        return found

    def _empty_gradients(self, x: Tensor, layer: Layer, need: Need) -> Gradients:
        z, _, _, _ = super()._empty_gradients(x, layer, (need[0], False, False, False))
        # of the weight's own order, in which the kernels write
        return z, torch.empty_like(_readable(layer.weight)) if need[1] else None, None, None

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
        around = GradientsAround(*found[:2])
        self._launch_gradients(x, u, v, layer, derivatives, _NOTHING, around)

    @staticmethod
    def _launch(
        x: Tensor, v: Tensor | None, layer: Layer, derivative: int, around: Around, y: Tensor
    ) -> None:
        norm, base, bias = around
        numbers, _alive = _layer_numbers(x, v, layer, norm)
        machine.extension().dense_out(
            *numbers, derivative, y.data_ptr(), *_base_numbers(base), address(bias)
        )

    @staticmethod
    def _launch_gradients(
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        around: Around,
        found: GradientsAround,
    ) -> None:
        norm, base, _ = around
        numbers, _alive = _layer_numbers(x, v, layer, norm)
        z, weight, base_x, base_weight, grad_norm = map(address, found)
        machine.extension().dense_in_weight(
            *numbers,
            *derivatives,
            *strided(u),
            z,
            weight,
            grad_norm,
            *_base_numbers(base),
            z if base is not None and base.x is x else base_x,
            base_weight,
        )
