"""Layers that look like KANs and that no adapter knows, so that a report never reads as all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from torch import nn

from kan_fast.interop.adapters import adapter_of

# the word KAN in a name: WavKANLinear, SKAN, BSRBF_KAN, KANs; not Kanji, OKANAGAN or KANGAROO
_WORD = re.compile(r"KAN(?=$|_|\d|s$|[A-Z][a-z])|KolmogorovArnold")


def is_look_alike_class(cls: type[nn.Module]) -> bool:
    """Whether a class is named like a KAN and is none of ours."""
    return _WORD.search(cls.__name__) is not None and not _is_ours(cls)


def _is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "kan_fast"


def is_unrecognised(module: nn.Module) -> bool:
    """Whether it is a KAN layer by its name that no adapter knows, and no container of such layers
    or of known ones."""
    if not is_look_alike_class(type(module)) or adapter_of(module) is not None:
        return False
    inside = (m for m in module.modules() if m is not module)
    return not any(
        is_look_alike_class(type(m)) or adapter_of(m) is not None or _is_ours(type(m))
        for m in inside
    )


def unrecognised(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of such layers."""
    for name, module in model.named_modules():
        if is_unrecognised(module):
            yield name, module


def text(classes: Counter[str]) -> str:
    """`not recognised: 3 x WavKANLinear, 1 x SKAN`; empty where there are none."""
    if not classes:
        return ""
    return "not recognised: " + ", ".join(f"{n} x {name}" for name, n in sorted(classes.items()))
