"""The contractions of dense families: values of a block of inputs, then a product of torch's.

For a GPU, whose library multiplies at the speed of the machine. The values never exist as a whole:
a block of a few megabytes is evaluated into memory that is still in the cache when the product
reads it, and again in the backward (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from kan_fast.backends import plain as batched
from kan_fast.errors import check_derivative
from kan_fast.spec import DenseBasis


class Values(Protocol):
    """What a backend evaluates; `x` and `v` are `[rows, in_features]`, any strides."""

    #: numbers of a block
    block: int

    def values(
        self, x: Tensor, v: Tensor | None, centers: Tensor | None, basis: DenseBasis,
        derivative: int, phi: Tensor,
    ) -> None:  # fmt: skip
        """phi[r, i, g] = v[r,i] b_g^(d)(x[r,i])  (eq. 13)."""

    def fold(
        self, x: Tensor, phi: Tensor, centers: Tensor | None, basis: DenseBasis, derivative: int,
        z: Tensor,
    ) -> None:  # fmt: skip
        """z[r,i] = sum_g phi[r, i, g] b_g^(d)(x[r,i])  (eq. 14)."""


#: rows of a block where a layer has many; more would leave too few inputs for the product
MOST_ROWS = 1024


class DenseKernels:
    """The contractions that `autograd.py` asks for, on `values` of a backend.

    Args:
        values: see `Values`.
        dtype: of the products, where it is not that of x.
    """

    def __init__(self, values: Values, dtype: torch.dtype | None = None) -> None:
        self._values = values
        self._dtype = dtype

    def _blocks(self, x: Tensor, basis: DenseBasis) -> Iterator[tuple[slice, slice]]:
        """Rows and inputs of every block; all rows of some inputs, then the next inputs."""
        rows, in_features = x.shape
        most_rows = max(1, min(rows, MOST_ROWS))
        most_inputs = max(1, min(in_features, self._values.block // (most_rows * basis.num_basis)))
        # what few inputs leave goes to the rows
        most_rows = max(most_rows, self._values.block // (most_inputs * basis.num_basis))
        for i in range(0, in_features, most_inputs):
            for r in range(0, rows, most_rows):
                yield (
                    slice(r, min(rows, r + most_rows)),
                    slice(i, min(in_features, i + most_inputs)),
                )

    def _phi(self, x: Tensor, basis: DenseBasis, blocks: list) -> Tensor:
        """Memory for the largest block."""
        most = max((r.stop - r.start) * (i.stop - i.start) for r, i in blocks) if blocks else 0
        return torch.empty(most * basis.num_basis, dtype=self._dtype or x.dtype, device=x.device)

    def out(self, x, v, knots, spline_weight, spline_scaler, base_weight, basis, derivative):
        """y of eq. 5 for a dense family; `knots` are centers."""
        check_derivative(derivative)
        if batched.lacks_address(x, v, spline_weight):
            return batched.out(x, v, knots, (spline_weight, None, None), basis, derivative)
        out_features = spline_weight.shape[0]
        weight = spline_weight.reshape(out_features, -1)
        weight = weight if self._dtype is None else weight.to(self._dtype)
        y = x.new_empty((x.shape[0], out_features), dtype=weight.dtype)
        blocks = list(self._blocks(x, basis))
        memory = self._phi(x, basis, blocks)
        if not blocks:
            return y.zero_().to(x.dtype)
        for rows, inputs in blocks:
            phi, columns = self._block(memory, rows, inputs, basis)
            part = None if v is None else v[rows, inputs]
            self._values.values(x[rows, inputs], part, knots, basis, derivative, phi)
            _add_product(phi, weight[:, columns].t(), y[rows], first=inputs.start == 0)
        return y.to(x.dtype)

    @staticmethod
    def _block(
        memory: Tensor, rows: slice, inputs: slice, basis: DenseBasis
    ) -> tuple[Tensor, slice]:
        """Values of a block `[rows, inputs * num_basis]`, and its columns among all."""
        shape = (rows.stop - rows.start, (inputs.stop - inputs.start) * basis.num_basis)
        columns = slice(inputs.start * basis.num_basis, inputs.stop * basis.num_basis)
        return memory[: shape[0] * shape[1]].view(shape), columns

    def in_weight(
        self, x, u, v, knots, spline_weight, spline_scaler, base_weight, basis,
        derivative_in, derivative_weight, need,
    ):  # fmt: skip
        """z of eq. 6 and S of eq. 7, a block at a time."""
        if need[0]:
            check_derivative(derivative_in)
        if batched.lacks_address(x, u, v, spline_weight):
            parameters = (spline_weight, None, None)
            return batched.in_weight(
                x, u, v, knots, parameters, basis, derivative_in, derivative_weight, need
            )
        shape = spline_weight.shape
        z = torch.empty_like(x, memory_format=torch.contiguous_format) if need[0] else None
        grad = None
        if need[1]:
            grad = x.new_empty((shape[0], shape[1] * shape[2]), dtype=self._dtype or x.dtype)
        if need[0] or need[1]:
            self._in_weight(
                x, u, v, knots, spline_weight, basis, derivative_in, derivative_weight, z, grad
            )
        return z, grad if grad is None else grad.view(shape).to(x.dtype), None, None

    def _in_weight(
        self, x, u, v, knots, weight, basis, derivative_in, derivative_weight, z, grad
    ):  # fmt: skip
        if weight is not None:
            weight = weight.reshape(weight.shape[0], -1)
            weight = weight if self._dtype is None else weight.to(self._dtype)
        u = u if self._dtype is None else u.to(self._dtype)
        blocks = list(self._blocks(x, basis))
        memory = self._phi(x, basis, blocks)
        if not blocks and grad is not None:
            grad.zero_()
        for rows, inputs in blocks:
            phi, columns = self._block(memory, rows, inputs, basis)
            at = x[rows, inputs]
            if grad is not None:
                part = None if v is None else v[rows, inputs]
                self._values.values(at, part, knots, basis, derivative_weight, phi)
                _add_product(u[rows].t(), phi, grad[:, columns], first=rows.start == 0)
            if z is not None:
                torch.mm(u[rows], weight[:, columns], out=phi)
                self._values.fold(at, phi, knots, basis, derivative_in, z[rows, inputs])

    def weight(self, x, u, v, knots, weight_shape, with_base, basis, derivative):
        """S of eq. 7."""
        check_derivative(derivative)
        if batched.lacks_address(x, u, v):
            return batched.weight(x, u, v, knots, basis, derivative)
        out_features, in_features, num_basis = weight_shape
        grad = x.new_empty((out_features, in_features * num_basis), dtype=self._dtype or x.dtype)
        self._in_weight(x, u, v, knots, None, basis, 0, derivative, None, grad)
        return grad.view(weight_shape).to(x.dtype), None


def _add_product(a: Tensor, b: Tensor, into: Tensor, first: bool) -> None:
    """into (+)= a b."""
    if first:
        torch.mm(a, b, out=into)
    else:
        torch.addmm(into, a, b, out=into)
