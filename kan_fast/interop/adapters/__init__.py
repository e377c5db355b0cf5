"""What kan_fast is told about the layers of each library: a file here and a line below.

`accelerate`, `report`, `explain`, `convert`, `plot`, `coefficients` and `install` ask adapters
alone, so none of them has to be told as well.
"""

from __future__ import annotations

from torch import nn

from kan_fast.interop.adapters.base import Adapter
from kan_fast.interop.adapters.chebykan import ChebyKan
from kan_fast.interop.adapters.efficient_kan import EfficientKan
from kan_fast.interop.adapters.fast_kan import FastKan
from kan_fast.interop.adapters.ours import OurChebyshev, OurGaussians, OurSplines
from kan_fast.interop.adapters.pykan.adapter import Pykan, PykanLayer

#: drop-ins for the layers of other libraries; whoever asks reads this name at every call
ADAPTERS: tuple[Adapter, ...] = (
    EfficientKan(),
    Pykan(),
    PykanLayer(),
    FastKan(),
    ChebyKan(),
)
#: our own layers, which nothing has to accelerate
OURS: tuple[Adapter, ...] = (
    OurSplines(),
    OurGaussians(),
    OurChebyshev(),
)


def adapter_of(module: nn.Module) -> Adapter | None:
    """The adapter whose layer of another library the module seems to be, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.is_candidate(module)), None)


def adapter_of_class(cls: type[nn.Module]) -> Adapter | None:
    """The adapter of whose layers the class seems to be, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.is_candidate_class(cls)), None)


def ours_of(module: nn.Module) -> Adapter | None:
    """The adapter of a layer of ours, or None."""
    return next((adapter for adapter in OURS if adapter.is_candidate(module)), None)


def describer_of(module: nn.Module) -> Adapter | None:
    """The adapter of any KAN layer, ours or another library's, or None."""
    return ours_of(module) or adapter_of(module)
