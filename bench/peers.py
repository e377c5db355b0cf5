"""The public packages that a bench can run beside ours."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn


def load_efficient_kan(path: str) -> type[nn.Module]:
    """The KANLinear class of an efficient-kan source: its file, or a checkout of its repository."""
    file = Path(path)
    if file.is_dir():
        file = file / "src" / "efficient_kan" / "kan.py"
    spec = importlib.util.spec_from_file_location("efficient_kan_under_test", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("KANLinear", "KANLinearModule"):
        if hasattr(module, name):
            return getattr(module, name)
    raise ImportError(f"{file} defines neither KANLinear nor KANLinearModule")


def models(widths: Sequence[int], grid_size: int) -> dict[str, nn.Module]:
    """One stack of layers for every package that is found."""
    found: dict[str, nn.Module] = {}
    path = os.environ.get("KAN_FAST_EFFICIENT_KAN")
    if path:
        layer = load_efficient_kan(path)
        found["efficient-kan"] = nn.Sequential(
            *[layer(i, o, grid_size=grid_size) for i, o in zip(widths, widths[1:], strict=False)]
        )
    return found
