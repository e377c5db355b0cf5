"""What `autograd.py` asks of the kernels of a backend."""

from __future__ import annotations

from typing import Protocol


class Kernels(Protocol):
    """The contractions of a backend; not differentiable themselves."""

    def out(self, x, v, knots, spline_weight, spline_scaler, base_weight, basis, derivative):
        """y of eq. 5."""

    def in_weight(
        self, x, u, v, knots, spline_weight, spline_scaler, base_weight, basis,
        derivative_in, derivative_weight, need,
    ):  # fmt: skip
        """z of eq. 6 and S of eq. 7, unfolded to the parameters."""

    def weight(self, x, u, v, knots, weight_shape, with_base, basis, derivative):
        """S of eq. 7."""
