"""ChebyKAN's ChebyKANLayer, under whatever name and in whatever file it was copied.

Interface and semantics: SynodicMonth's ChebyKAN. Where its cos(n arccos t) has no derivative, at
tanh(x) = -1 and 1, ours has the polynomials' own; copies with the recurrence have it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import reference
from kan_fast.interop.adapters.base import Adapter, are_plain, has, tensors_of
from kan_fast.interop.adapters.self_check import differs
from kan_fast.interop.adapters.source import fingerprint, side_effects
from kan_fast.layers.chebyshev import ChebyshevKANLinear
from kan_fast.layers.edges import Edges, chebyshev_edges
from kan_fast.ops.full_basis import chebyshev_linear

#: fingerprints of forwards of public copies, whose results tests/test_full_adapters.py compares
#: with ours
KNOWN_SOURCES: dict[str, str] = {"646ac46b06fd4969": "with the recurrence, as in deep-kan 0.0.4"}

_SETTINGS = ("inputdim", "outdim", "degree")
_PLAIN_ATTRIBUTES = frozenset(("cheby_coeffs", "arange", *_SETTINGS))


def _inputs(module: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((32, module.inputdim), generator=generator, dtype=torch.float64)


def _expected(module: Any, x: Tensor) -> Tensor:
    basis = reference.chebyshev_basis(torch.tanh(x), module.degree + 1)
    return torch.einsum("rin,ion->ro", basis, module.cheby_coeffs)


class ChebyKan(Adapter):
    """ChebyKAN's ChebyKANLayer."""

    kind = "ChebyKAN"
    is_full = True
    settings = _SETTINGS
    tensors = ("cheby_coeffs",)

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return "cheby" in cls.__name__.lower() and not issubclass(cls, ChebyshevKANLinear)

    def is_candidate(self, module: nn.Module) -> bool:
        return all(has(module, n) for n in (*_SETTINGS, "cheby_coeffs"))

    def why_not(self, module: Any) -> str | None:
        ready = self.prepare(module)
        if isinstance(ready, str):
            return ready
        cls = type(module)
        if fingerprint(cls.forward) in KNOWN_SOURCES:
            return None
        return side_effects(cls, ("forward",), _PLAIN_ATTRIBUTES) or differs(
            module, _inputs, _expected, self.kind, ("arange",)
        )

    def describe(self, module: Any) -> str:
        return f"{module.inputdim} -> {module.outdim}"

    def prepare(self, module: Any) -> tuple | str:
        (coeffs,) = tensors_of(module, ("cheby_coeffs",))
        shape = (module.inputdim, module.outdim, module.degree + 1)
        if not are_plain(coeffs) or coeffs.shape != shape:
            return f"its cheby_coeffs should be a tensor of shape {shape}"
        return coeffs, 0

    def run(self, module: Any, x: Tensor, ready: tuple, own: Callable[[], Tensor]) -> Tensor:
        """`[rows, outdim]` whatever the leading dimensions."""
        t = torch.tanh(x.reshape(-1, module.inputdim))
        return chebyshev_linear(t, ready[0].transpose(0, 1))

    def edges(self, module: Any) -> Edges:
        return chebyshev_edges(module.cheby_coeffs.transpose(0, 1))

    @torch.no_grad()
    def converted(self, module: Any) -> ChebyshevKANLinear:
        coeffs = module.cheby_coeffs
        found = ChebyshevKANLinear(
            module.inputdim, module.outdim, module.degree, device=coeffs.device, dtype=coeffs.dtype
        )
        found.weight.copy_(coeffs.transpose(0, 1))
        return found
