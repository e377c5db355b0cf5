"""The public packages that a bench can run beside ours, each where it can be found.

pykan and inkan join when they are installed; efficient-kan, fast-kan and ChebyKAN when
KAN_FAST_EFFICIENT_KAN, KAN_FAST_FAST_KAN and KAN_FAST_CHEBY_KAN name their source files.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

import kan_fast
from kan_fast import kan_linear
from kan_fast.baselines import mlp, same_parameter_widths


def _load(path: str, inside: str) -> ModuleType:
    """A source file, or a checkout of its repository."""
    file = Path(path.split(":")[0])
    if file.is_dir():
        file = file / inside
    spec = importlib.util.spec_from_file_location(f"{file.stem}_under_test", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_efficient_kan(path: str) -> type[nn.Module]:
    """The KANLinear class of an efficient-kan source."""
    module = _load(path, "src/efficient_kan/kan.py")
    for name in ("KANLinear", "KANLinearModule"):
        if hasattr(module, name):
            return getattr(module, name)
    raise ImportError(f"{path} defines neither KANLinear nor KANLinearModule")


class Oracle(kan_fast.KANLinear):
    """Our layer in plain torch operators."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return kan_linear(
            x, self.grid, self.spline_weight, self.spline_scaler, self.base_weight,
            spline_order=self.spline_order, backend="reference",
        )  # fmt: skip


def stack(layer, widths: Sequence[int], **options) -> nn.Module:
    """One `layer(i, o, **options)` after another."""
    return nn.Sequential(
        *[layer(i, o, **options) for i, o in zip(widths, widths[1:], strict=False)]
    )


def _pykan(widths: Sequence[int], grid_size: int, spline_order: int) -> nn.Module:
    from kan import KAN

    # it writes a checkpoint of itself wherever it is told to
    model = KAN(
        list(widths), grid=grid_size, k=spline_order, auto_save=False, ckpt_path=tempfile.mkdtemp()
    )
    return model.speed()


def ours(widths: Sequence[int], grid_size: int, spline_order: int = 3) -> dict[str, nn.Module]:
    """What every bench has: the same-parameter MLP first, then kan_fast."""
    return {
        "mlp": mlp(same_parameter_widths(widths, grid_size, spline_order)),
        "kan_fast": kan_fast.KAN(widths, grid_size, spline_order),
    }


def models(
    widths: Sequence[int], grid_size: int, spline_order: int = 3, compiled: bool = False
) -> dict[str, nn.Module]:
    """One model for every peer that is found; what cannot be built is left out with a line."""
    options = {"grid_size": grid_size, "spline_order": spline_order}
    makers = {
        "equal-width mlp": lambda: mlp(widths),
        "oracle": lambda: stack(Oracle, widths, **options),
    }
    path = os.environ.get("KAN_FAST_EFFICIENT_KAN")
    if path:
        layer = load_efficient_kan(path)
        makers["efficient-kan"] = lambda: stack(layer, widths, **options)
        makers["accelerated efficient-kan"] = lambda: kan_fast.accelerate(
            stack(layer, widths, **options), strict=True
        )
        if compiled:
            makers["compiled efficient-kan"] = lambda: torch.compile(
                stack(layer, widths, **options)
            )
    if importlib.util.find_spec("inkan"):
        from inkan import KANNetwork

        makers["inkan"] = lambda: KANNetwork(
            list(widths), grid_size, spline_order, compile_basis=compiled
        )
    if importlib.util.find_spec("kan"):
        makers["pykan"] = lambda: _pykan(widths, grid_size, spline_order)
        makers["accelerated pykan"] = lambda: kan_fast.accelerate(
            _pykan(widths, grid_size, spline_order), strict=True
        )
    if os.environ.get("KAN_FAST_FAST_KAN"):
        fast = _load(os.environ["KAN_FAST_FAST_KAN"], "fastkan/fastkan.py")
        makers["fast-kan"] = lambda: fast.FastKAN(list(widths), num_grids=grid_size + spline_order)
    if os.environ.get("KAN_FAST_CHEBY_KAN"):
        cheby = _load(os.environ["KAN_FAST_CHEBY_KAN"], "ChebyKANLayer.py")
        makers["ChebyKAN"] = lambda: nn.Sequential(
            *[
                cheby.ChebyKANLayer(i, o, grid_size + spline_order)
                for i, o in zip(widths, widths[1:], strict=False)
            ]
        )
    found: dict[str, nn.Module] = {}
    for name, make in makers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = make()
        except Exception as error:  # a peer's own trouble
            print(f"{name} is left out: {type(error).__name__}: {error}")
    return found
