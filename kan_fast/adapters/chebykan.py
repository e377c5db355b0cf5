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
from kan_fast.adapters.calls import only_tensor
from kan_fast.adapters.self_check import differs
from kan_fast.adapters.source import fingerprint, side_effects
from kan_fast.chebyshev import ChebyshevKANLinear
from kan_fast.dense import chebyshev_linear
from kan_fast.functional import has_kernel

kind = "ChebyKAN"

#: fingerprints of forwards of public copies, whose results tests/test_dense_adapters.py compares
#: with ours
KNOWN_SOURCES: dict[str, str] = {"9da434c934bde563": "with the recurrence, as in deep-kan 0.0.4"}

_PLAIN_ATTRIBUTES = frozenset("inputdim outdim degree cheby_coeffs arange".split())


def is_candidate_class(cls: type[nn.Module]) -> bool:
    """Whether instances may be ChebyKAN layers; they tell when they are called."""
    return "cheby" in cls.__name__.lower() and not issubclass(cls, ChebyshevKANLinear)


def is_candidate(module: nn.Module) -> bool:
    """Whether the module has the attributes of a ChebyKAN layer."""
    return all(hasattr(module, n) for n in ("inputdim", "outdim", "degree", "cheby_coeffs"))


def describe(module: Any) -> str:
    """Its size, for reports."""
    return f"{module.inputdim} -> {module.outdim}"


def weight_and_order(module: Any) -> tuple[Tensor, int]:
    """Its weight, which the planner wants to know."""
    return module.cheby_coeffs, 0


def _inputs(module: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((32, module.inputdim), generator=generator, dtype=torch.float64)


def _expected(module: Any, x: Tensor) -> Tensor:
    basis = reference.chebyshev_basis(torch.tanh(x), module.degree + 1)
    return torch.einsum("rin,ion->ro", basis, module.cheby_coeffs)


def why_not(module: Any) -> str | None:
    """The reason why a candidate is left alone, as a sentence; None when it can be accelerated."""
    shape = (module.inputdim, module.outdim, module.degree + 1)
    coeffs = module.cheby_coeffs
    if not isinstance(coeffs, Tensor) or tuple(coeffs.shape) != shape:
        return f"its cheby_coeffs should be a tensor of shape {shape}"
    forward = type(module).forward
    if fingerprint(forward) in KNOWN_SOURCES:
        return None
    return side_effects(forward, _PLAIN_ATTRIBUTES) or differs(module, _inputs, _expected, kind)


def takes(module: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call is one that `run` knows, on an input that a kernel runs."""
    x = only_tensor(args, kwargs)
    # a compiler fuses the layer's own operators
    if x is None or torch.compiler.is_compiling():
        return False
    return has_kernel(x, *weight_and_order(module))


def run(module: Any, x: Tensor, original: Callable[[], Tensor] | None = None) -> Tensor:
    """The layer through our kernels, `[rows, outdim]` whatever the leading dimensions."""
    weight = module.cheby_coeffs.transpose(0, 1)
    return chebyshev_linear(torch.tanh(x.reshape(-1, module.inputdim)), weight)
