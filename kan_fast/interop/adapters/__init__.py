"""Drop-ins for the KAN layers of other libraries. A new one is a file here and a line below."""

from __future__ import annotations

from torch import nn

from kan_fast.interop.adapters.base import Adapter
from kan_fast.interop.adapters.chebykan import ChebyKan
from kan_fast.interop.adapters.efficient_kan import EfficientKan
from kan_fast.interop.adapters.fast_kan import FastKan
from kan_fast.interop.adapters.pykan.adapter import Pykan, PykanLayer

ADAPTERS: tuple[Adapter, ...] = (
    EfficientKan(),
    Pykan(),
    PykanLayer(),
    FastKan(),
    ChebyKan(),
)


def adapter_of(module: nn.Module) -> Adapter | None:
    """The adapter whose layer the module seems to be, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.is_candidate(module)), None)
