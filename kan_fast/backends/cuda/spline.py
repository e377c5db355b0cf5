"""The contractions by CUDA C++ kernels: on tensor cores where they have one, else by gathering."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends.base import Kernels
from kan_fast.backends.crossing import address, layer_numbers, strided
from kan_fast.backends.cuda import network
from kan_fast.backends.devices import on_device, target_of
from kan_fast.backends.layer import Gradients, Layer

#: `kan_fast::Product` of product.h
_PRODUCTS = {"tf32x3": 0, "tf32": 1, "bf16": 2, "fp16": 3}
#: from so many outputs and up to so many functions tensor cores multiply all functions of an input,
#: of which most are zero
MMA_OUTPUTS, MMA_FUNCTIONS = 16, 40
#: and from order 1 up to this one
MMA_ORDER = 3
WGMMA_CAPABILITY = (9, 0)
#: bytes of shared memory of a block on the host, which does what compute capability 9.0 does
_EMULATED_SHARED = 227 << 10


@functools.cache
def _most_shared(device: torch.device) -> int:
    """Bytes of shared memory that a block may have, as the driver says."""
    if device.type != "cuda":
        return _EMULATED_SHARED
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


class CudaKernels(Kernels):
    """The contractions in one precision.

    Args:
        product: "tf32x3", "tf32", "bf16" or "fp16": of the products of tensor cores; None for
            float64, which has none here. Sums are in float32.
        sparse: whether a forward multiplies by structured-sparse tensor cores.
        wgmma: whether it does so by wgmma, where compute capability is 9.0. Neither is the
            fastest anywhere (docs/gpu-validation.md).
    """

    #: all layers of a small network in one launch
    network = network

    def __init__(self, product: str | None, sparse: bool = False, wgmma: bool = False) -> None:
        self.product = None if product is None else _PRODUCTS[product]
        self.sparse = sparse
        self.wgmma = wgmma

    def _multiplies(self, weight: Tensor) -> bool:
        outputs, _, functions = weight.shape
        wide = outputs >= MMA_OUTPUTS and functions <= MMA_FUNCTIONS
        return wide and self.product is not None and weight.dtype is torch.float32

    def _choices(self, x: Tensor, spline_order: int) -> list[tuple[bool, bool, int]]:
        """`sparse`, `wgmma` and the shared memory of kernels to try, the best first."""
        if not 1 <= spline_order <= MMA_ORDER:
            return []
        shared = _most_shared(x.device)
        found = [(self.sparse, False, shared)]
        capability = machine.gpu(x.device).capability if x.is_cuda else WGMMA_CAPABILITY
        if self.wgmma and capability == WGMMA_CAPABILITY:
            found.insert(0, (self.sparse, True, shared))
        return found

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        extension = machine.extension()
        with on_device(x):
            numbers, _alive = layer_numbers(x, v, layer)
            arguments = (*numbers, derivative, y.data_ptr())
            if self._multiplies(layer.weight):
                for choice in self._choices(x, layer.basis.spline_order):
                    words = extension.cuda_mma_words(*numbers, self.product, *choice)
                    if words:
                        packed = x.new_empty(words, dtype=torch.int32)
                        extension.cuda_mma_out(
                            *arguments, self.product, *choice, packed.data_ptr(), *target_of(x)
                        )
                        return
            extension.cuda_out(*arguments, *target_of(x))

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        # a second launch adds up parts of the rows where there are several
        extension = machine.extension()
        with on_device(x):
            numbers, _alive = layer_numbers(x, v, layer)
            arguments = (*numbers, *derivatives, *strided(u), *map(address, found))
            if self._multiplies(layer.weight):
                count = extension.cuda_mma_partial_numbers(*numbers, self.product)
                if count >= 0:
                    partial = x.new_empty(count)
                    extension.cuda_mma_in_weight(
                        *arguments, partial.data_ptr(), self.product, *target_of(x)
                    )
                    return
            partial = x.new_empty(extension.cuda_partial_numbers(*numbers))
            extension.cuda_in_weight(*arguments, partial.data_ptr(), *target_of(x))
