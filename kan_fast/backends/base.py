"""What a backend is: the problems that it takes, and the contractions that it launches.

A new one is a folder or a file with a `Backend`, and a line in `backends/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kan_fast.backends import plain
from kan_fast.backends.layer import Gradients, Layer, Need, as_layer
from kan_fast.errors import check_derivative
from kan_fast.spec import (
    DTYPES,
    LEAST_CAPABILITY,
    MAX_DERIVATIVE,
    MAX_SPLINE_ORDER,
    FullBasis,
    Machine,
    Problem,
    WindowedBasis,
)


class Kernels:
    """The contractions of docs/math.md, section 5, in one precision; not differentiable themselves.

    Subclasses write the two launches, into outputs that have their shapes. What kernels cannot read
    is the business of `plain.py`.
    """

    #: of `out`; None for that of x
    out_dtype: torch.dtype | None = None
    #: whole networks in one launch (`cuda/network.py`); None where a backend has no such kernels
    network: Any = None
    #: of a gradient of the weight
    weight_format = torch.contiguous_format
    #: whether it also has `out_around`, `in_weight_around` and `statistics_for`, of layers with
    #: what `around.py` says
    takes_around = False

    def out(self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int) -> Tensor:
        """`y` of eq. 5, `[rows, out_features]`; `x` and `v` are `[rows, in_features]`."""
        if derivative > MAX_DERIVATIVE:
            check_derivative(derivative)
        knots, weight, scaler, base, _ = layer
        if plain.lacks_address(x, v, knots, weight, scaler, base):
            return plain.out(x, v, layer, derivative)
        y = x.new_empty((x.shape[0], weight.shape[0]), dtype=self.out_dtype)
        self._launch_out(x, v, layer, derivative, y)
        return y

    def in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivative_in: int,
        derivative_weight: int,
        need: Need,
    ) -> Gradients:
        """The backward, `in` and `weight` together: `z` of eq. 6, and `S` of eq. 7 unfolded to the
        parameters, in one pass over `u` `[rows, out_features]`.

        Args:
            need: which of `z` and the gradients of weight, scaler and base to compute.
        """
        if need[0] and derivative_in > MAX_DERIVATIVE:
            check_derivative(derivative_in)
        knots, weight, scaler, base, _ = layer
        if plain.lacks_address(x, u, v, knots, weight, scaler, base):
            return plain.in_weight(x, u, v, layer, derivative_in, derivative_weight, need)
        contiguous = torch.contiguous_format
        found = (
            torch.empty_like(x, memory_format=contiguous) if need[0] else None,
            torch.empty_like(weight, memory_format=self.weight_format) if need[1] else None,
            torch.empty_like(scaler, memory_format=contiguous) if need[2] else None,
            torch.empty_like(base, memory_format=contiguous) if need[3] else None,
        )
        derivatives = derivative_in if need[0] else 0, derivative_weight
        self._launch_in_weight(x, u, v, layer, derivatives, found)
        return found

    def weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        knots: Tensor | None,
        weight_shape: torch.Size,
        with_base: bool,
        basis: WindowedBasis | FullBasis,
        derivative: int,
    ) -> tuple[Tensor, Tensor | None]:
        """`S` of eq. 7: its spline part `weight_shape`, and its base part or None."""
        check_derivative(derivative)
        if plain.lacks_address(x, u, v, knots):
            spline, base = plain.weight(x, u, v, knots, basis, derivative)
            return spline, base if with_base else None
        dtype = x.dtype if knots is None else knots.dtype
        spline = x.new_empty(weight_shape, dtype=dtype)
        base = x.new_empty(weight_shape[:2], dtype=dtype) if with_base else None
        # S does not depend on the weights: a launch reads the sizes alone where neither z nor the
        # gradient of a scaler is asked for
        layer = as_layer((knots, spline, None, base, basis))
        self._launch_in_weight(x, u, v, layer, (0, derivative), (None, spline, None, base))
        return spline, base

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        """Writes eq. 5 to `y`."""
        raise NotImplementedError

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        """Writes eq. 6 and the unfolded eq. 7 to those of `found` that are there."""
        raise NotImplementedError


class Backend:
    """A way to run layers: what it needs, and its kernels.

    The class attributes say which problems it takes; `missing` says what a machine lacks.
    """

    #: by which users ask for it
    name = ""
    #: in sentences: "the {title} kernels run on"
    title = ""
    #: type of device
    device = "cpu"
    dtypes = DTYPES
    #: whether x may be of a narrower dtype than the weights, as under autocast
    takes_narrow_inputs = False
    #: whether half precision is computed in float32 and rounded once
    widens_half = True
    #: eq. 9: `gram(x, knots, basis, derivatives, cotangent)`; None where it has no such kernel
    gram: Callable[..., Tensor] | None = None

    def missing(self, problem: Problem, facts: Machine) -> str | None:
        """What the machine or the build lacks, as a sentence."""
        return None

    def emulates(self, problem: Problem, facts: Machine) -> bool:
        """Whether tensors of another device are taken, as by an interpreter."""
        return False

    def reserved(self, problem: Problem) -> str | None:
        """Why it has to be asked for by name, as a sentence."""
        return None

    def why_not(self, problem: Problem, facts: Machine) -> str | None:
        """The reason why it cannot run `problem`, as a sentence; None where it can."""
        reason = self.missing(problem, facts)
        if reason is not None:
            return reason
        kernels = f"the {self.title} kernels"
        if problem.device != self.device and not self.emulates(problem, facts):
            return f"{kernels} run on {self.device} tensors, got {problem.device}"
        if problem.capability is not None and problem.capability < LEAST_CAPABILITY:
            least, found = ("{}.{}".format(*c) for c in (LEAST_CAPABILITY, problem.capability))
            return f"{kernels} need a GPU of compute capability {least} or more, got {found}"
        reason = self.reserved(problem)
        if reason is not None:
            return reason
        if problem.dtype not in self.dtypes:
            return f"{kernels} take {', '.join(self.dtypes)}, got {problem.dtype}"
        if problem.spline_order > MAX_SPLINE_ORDER:
            return f"{kernels} go up to spline_order {MAX_SPLINE_ORDER}"
        if problem.transform is not None:
            return f"{problem.transform} needs plain torch operators"
        return None

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> Kernels | None:
        """The contractions of splines in the precision that torch has been asked for, now; None
        where the layer is plain torch operators.

        Args:
            weight: a parameter of the layer.
            product_dtype: of autocast or of half precision, to which products may be rounded.
        """
        raise NotImplementedError

    def full_kernels(
        self, weight: Tensor, product_dtype: torch.dtype | None = None
    ) -> Kernels | None:
        """The same for families whose functions are all evaluated."""
        return None
