"""Drop-ins for the KAN layers of other libraries. A new one is a file here and a line below."""

from __future__ import annotations

from types import ModuleType

from torch import nn

from kan_fast.adapters import chebykan, efficient_kan, fast_kan, pykan, pykan_layer

#: each module offers `kind`, `is_candidate(module)`, `is_candidate_class(cls)`, `why_not(module)`,
#: `describe(module)`, `weight_and_order(module)`, `takes(module, args, kwargs)` and
#: `run(module, x, original)`; those that replace more than a forward also `methods(cls)`
ADAPTERS: tuple[ModuleType, ...] = (
    efficient_kan,
    pykan,
    pykan_layer,
    fast_kan,
    chebykan,
)


def adapter_of(module: nn.Module) -> ModuleType | None:
    """The adapter whose layer the module seems to be, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.is_candidate(module)), None)
