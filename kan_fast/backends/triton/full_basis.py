"""The contractions of full bases: values of a block of inputs, then a product of torch's.

For a GPU, whose library multiplies at the speed of the machine. The values never exist as a whole:
a block of a few megabytes is evaluated into memory that is still in the cache when the product
reads it, and again in the backward (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kan_fast.backends.base import Kernels
from kan_fast.backends.layer import Gradients, Layer
from kan_fast.backends.triton import full_basis_values
from kan_fast.spec import FullBasis

#: rows of a block where a layer has many; more would leave too few inputs for the product
MOST_ROWS = 1024


class TritonFullKernels(Kernels):
    """The contractions of families whose functions are all evaluated.

    Args:
        product_dtype: of the products, where it is not that of x.
    """

    def __init__(self, product_dtype: torch.dtype | None = None) -> None:
        self._product_dtype = product_dtype

    def _blocks(self, x: Tensor, basis: FullBasis) -> Iterator[tuple[slice, slice]]:
        """Rows and inputs of every block; all rows of some inputs, then the next inputs."""
        rows, in_features = x.shape
        most_rows = max(1, min(rows, MOST_ROWS))
        most_inputs = max(
            1, min(in_features, full_basis_values.BLOCK // (most_rows * basis.num_basis))
        )
        # what few inputs leave goes to the rows
        most_rows = max(most_rows, full_basis_values.BLOCK // (most_inputs * basis.num_basis))
        for i in range(0, in_features, most_inputs):
            for r in range(0, rows, most_rows):
                yield (
                    slice(r, min(rows, r + most_rows)),
                    slice(i, min(in_features, i + most_inputs)),
                )

    def _phi(self, x: Tensor, basis: FullBasis, blocks: list) -> Tensor:
        """Memory for the largest block."""
        most = max((r.stop - r.start) * (i.stop - i.start) for r, i in blocks) if blocks else 0
        return torch.empty(
            most * basis.num_basis, dtype=self._product_dtype or x.dtype, device=x.device
        )

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        knots, weight, _, _, basis = layer
        weight = self._product(weight.reshape(weight.shape[0], -1))
        sums = y if weight.dtype is y.dtype else torch.empty_like(y, dtype=weight.dtype)
        blocks = list(self._blocks(x, basis))
        memory = self._phi(x, basis, blocks)
        if not blocks:
            sums.zero_()
        for rows, inputs in blocks:
            phi, columns = self._block(memory, rows, inputs, basis)
            part = None if v is None else v[rows, inputs]
            full_basis_values.values(x[rows, inputs], part, knots, basis, derivative, phi)
            _add_product(phi, weight[:, columns].t(), sums[rows], first=inputs.start == 0)
        if sums is not y:
            y.copy_(sums)

    def _product(self, t: Tensor) -> Tensor:
        return t if self._product_dtype is None else t.to(self._product_dtype)

    @staticmethod
    def _block(
        memory: Tensor, rows: slice, inputs: slice, basis: FullBasis
    ) -> tuple[Tensor, slice]:
        """Values of a block `[rows, inputs * num_basis]`, and its columns among all."""
        shape = (rows.stop - rows.start, (inputs.stop - inputs.start) * basis.num_basis)
        columns = slice(inputs.start * basis.num_basis, inputs.stop * basis.num_basis)
        return memory[: shape[0] * shape[1]].view(shape), columns

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        z, grad_weight, _, _ = found
        if z is None and grad_weight is None:
            return
        knots, weight, _, _, basis = layer
        if z is not None:
            weight = self._product(weight.reshape(weight.shape[0], -1))
        grad = None
        if grad_weight is not None:
            dtype = self._product_dtype or x.dtype
            same = dtype is grad_weight.dtype
            grad = grad_weight if same else torch.empty_like(grad_weight, dtype=dtype)
            grad = grad.view(grad.shape[0], -1)
        u = self._product(u)
        blocks = list(self._blocks(x, basis))
        memory = self._phi(x, basis, blocks)
        if not blocks and grad is not None:
            grad.zero_()
        for rows, inputs in blocks:
            phi, columns = self._block(memory, rows, inputs, basis)
            at = x[rows, inputs]
            if grad is not None:
                part = None if v is None else v[rows, inputs]
                full_basis_values.values(at, part, knots, basis, derivatives[1], phi)
                _add_product(u[rows].t(), phi, grad[:, columns], first=rows.start == 0)
            if z is not None:
                torch.mm(u[rows], weight[:, columns], out=phi)
                full_basis_values.fold(at, phi, knots, basis, derivatives[0], z[rows, inputs])
        if grad is not None and grad.dtype is not grad_weight.dtype:
            grad_weight.copy_(grad.view_as(grad_weight))


def _add_product(a: Tensor, b: Tensor, into: Tensor, first: bool) -> None:
    """into (+)= a b."""
    if first:
        torch.mm(a, b, out=into)
    else:
        torch.addmm(into, a, b, out=into)
