"""The contractions by CUDA C++ kernels: on tensor cores where they have one, else by gathering."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import plain as batched
from kan_fast.backends.cpu.backend import layer_numbers
from kan_fast.backends.cuda import network as cuda_network
from kan_fast.backends.devices import on_device, target_of
from kan_fast.errors import check_derivative
from kan_fast.spec import BasisSpec

#: `kan_fast::Product` of product.h
_PRODUCTS = {"tf32x3": 0, "tf32": 1, "bf16": 2, "fp16": 3}
#: from so many outputs and up to so many functions tensor cores multiply all functions of an input,
#: of which most are zero; to be measured
MMA_OUTPUTS, MMA_FUNCTIONS = 16, 40
#: and from order 1 up to this one
MMA_ORDER = 3
#: how a forward uses tensor cores: as structured-sparse ones, and by wgmma where compute
#: capability is 9.0. Both are as documented (docs/gpu-validation.md) and off until they have run
sparse = False
wgmma = False
WGMMA_CAPABILITY = (9, 0)
#: bytes of shared memory of a block on the host, which does what compute capability 9.0 does
_EMULATED_SHARED = 227 << 10


@functools.cache
def _most_shared(device: torch.device) -> int:
    """Bytes of shared memory that a block may have, as the driver says."""
    if device.type != "cuda":
        return _EMULATED_SHARED
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def _choices(x: Tensor, spline_order: int) -> list[tuple[bool, bool, int]]:
    """`sparse`, `wgmma` and the shared memory of kernels to try, the best first."""
    capability = machine.gpu(x.device).capability if x.is_cuda else WGMMA_CAPABILITY
    shared = _most_shared(x.device)
    if not 1 <= spline_order <= MMA_ORDER:
        return []
    found = [(sparse, False, shared)]
    if wgmma and capability == WGMMA_CAPABILITY:
        found.insert(0, (sparse, True, shared))
    return found


class CudaKernels:
    """The contractions in one precision (`kan_fast.backends.base.Kernels`).

    Args:
        product: "tf32x3", "tf32", "bf16" or "fp16": of the products of tensor cores; None for
            float64, which has none here. Sums are in float32.
    """

    #: all layers of a small network in one launch
    network = cuda_network

    def __init__(self, product: str | None) -> None:
        self.product = None if product is None else _PRODUCTS[product]

    def _multiplies(self, spline_weight: Tensor) -> bool:
        outputs, _, functions = spline_weight.shape
        wide = outputs >= MMA_OUTPUTS and functions <= MMA_FUNCTIONS
        return wide and self.product is not None and spline_weight.dtype is torch.float32

    def out(
        self,
        x: Tensor,
        v: Tensor | None,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        derivative: int,
    ) -> Tensor:
        """`y` of docs/math.md eq. 5, `[rows, out_features]`; `x` and `v` are
        `[rows, in_features]`."""
        check_derivative(derivative)
        parameters = (spline_weight, spline_scaler, base_weight)
        if batched.lacks_address(x, v, *parameters):
            return batched.out(x, v, knots, parameters, basis, derivative)
        y = x.new_empty((x.shape[0], spline_weight.shape[0]))
        extension = machine.extension()
        with on_device(x):
            numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
            arguments = (*numbers, derivative, y.data_ptr())
            if self._multiplies(spline_weight):
                for choice in _choices(x, basis.spline_order):
                    words = extension.cuda_mma_words(*numbers, self.product, *choice)
                    if words:
                        packed = x.new_empty(words, dtype=torch.int32)
                        extension.cuda_mma_out(
                            *arguments, self.product, *choice, packed.data_ptr(), *target_of(x)
                        )
                        return y
            extension.cuda_out(*arguments, *target_of(x))
        return y

    def in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        spline_weight: Tensor,
        spline_scaler: Tensor | None,
        base_weight: Tensor | None,
        basis: BasisSpec,
        derivative_in: int,
        derivative_weight: int,
        need: tuple[bool, bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """`z` of eq. 6 and `S` of eq. 7 unfolded to the parameters, from one launch; a second one
        adds up parts of the rows where there are several.

        Args:
            need: which of `z`, grad_spline_weight, grad_spline_scaler, grad_base_weight to compute.

        Returns:
            those four; None where not needed.
        """
        if need[0]:
            check_derivative(derivative_in)
        parameters = (spline_weight, spline_scaler, base_weight)
        if batched.lacks_address(x, u, v, *parameters):
            return batched.in_weight(
                x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
            )
        outputs = tuple(
            torch.empty_like(t, memory_format=torch.contiguous_format) if wanted else None
            for t, wanted in zip((x, *parameters), need, strict=True)
        )
        extension = machine.extension()
        with on_device(x):
            numbers, _alive = layer_numbers(x, v, knots, *parameters, basis)
            arguments = (
                *numbers,
                derivative_in if need[0] else 0,
                derivative_weight,
                u.data_ptr(),
                *u.stride(),
                *[0 if t is None else t.data_ptr() for t in outputs],
            )
            if self._multiplies(spline_weight):
                count = extension.cuda_mma_partial_numbers(*numbers, self.product)
                if count >= 0:
                    partial = x.new_empty(count)
                    extension.cuda_mma_in_weight(
                        *arguments, partial.data_ptr(), self.product, *target_of(x)
                    )
                    return outputs
            partial = x.new_empty(extension.cuda_partial_numbers(*numbers))
            extension.cuda_in_weight(*arguments, partial.data_ptr(), *target_of(x))
        return outputs

    def weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor,
        weight_shape: torch.Size,
        with_base: bool,
        basis: BasisSpec,
        derivative: int,
    ) -> tuple[Tensor, Tensor | None]:
        """`S` of eq. 7: its spline part `weight_shape`, and its base part or None."""
        check_derivative(derivative)
        if batched.lacks_address(x, u, v):
            spline, base = batched.weight(x, u, v, knots, basis, derivative)
            return spline, base if with_base else None
        # S does not depend on the weights; only their sizes are read
        spline = x.new_empty(weight_shape)
        base = x.new_empty(weight_shape[:2]) if with_base else None
        need = (False, True, False, with_base)
        found = self.in_weight(x, u, v, knots, spline, None, base, basis, 0, derivative, need)
        return found[1], found[3]
