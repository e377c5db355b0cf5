"""Our own layers. They run kernels by themselves, so nothing marks them; they are described in the
same words as those of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from kan_fast.interop.adapters.base import Adapter
from kan_fast.layers.chebyshev import ChebyshevKANLinear
from kan_fast.layers.edges import (
    Edges,
    Splines,
    chebyshev_edges,
    gaussian_edges,
    splines_of,
)
from kan_fast.layers.gaussian import GaussianKANLinear
from kan_fast.layers.spline import KANLinear


class _Ours(Adapter):
    """A class of ours and its subclasses."""

    kind = "kan_fast"
    cls: type[nn.Module]

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return issubclass(cls, self.cls)

    def is_candidate(self, module: nn.Module) -> bool:
        return isinstance(module, self.cls)

    def why_not(self, module: nn.Module) -> str | None:
        return None

    def describe(self, module: Any) -> str:
        return f"{module.in_features} -> {module.out_features}"

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Tensor]) -> Tensor:
        return own()


class OurSplines(_Ours):
    """`KANLinear`."""

    cls = KANLinear

    def prepare(self, module: Any) -> tuple | str:
        return module.spline_weight, module.spline_order

    def edges(self, module: Any) -> Edges:
        return splines_of(module).edges()

    def splines(self, module: Any) -> Splines:
        return splines_of(module)


class OurGaussians(_Ours):
    """`GaussianKANLinear`."""

    cls = GaussianKANLinear

    def prepare(self, module: Any) -> tuple | str:
        return module.spline_linear.weight, 0

    def edges(self, module: Any) -> Edges:
        return gaussian_edges(module)


class OurChebyshev(_Ours):
    """`ChebyshevKANLinear`."""

    cls = ChebyshevKANLinear

    def prepare(self, module: Any) -> tuple | str:
        return module.weight, 0

    def edges(self, module: Any) -> Edges:
        return chebyshev_edges(module.weight)
