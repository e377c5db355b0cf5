"""The public packages that a bench can run beside ours, each where it can be found.

pykan and inkan join when they are installed; efficient-kan, fast-kan and ChebyKAN are fetched by
`real_libraries.py`.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import real_libraries
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
    # torch.compile looks its functions up there
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def load_classes(path: str) -> ModuleType:
    """The classes of a source file and of its neighbour `utils.py`, without what else they
    import and do."""
    file = Path(path.split(":")[0])
    module = ModuleType(f"{file.stem}_classes")
    sys.modules[module.__name__] = module
    vars(module).update(torch=torch, nn=nn, F=torch.nn.functional, math=math)
    for each in (file.with_name("utils.py"), file):
        if not each.exists():
            continue
        tree = ast.parse(each.read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                # with its place in the file, where adapters read the source
                part = ast.Module([node], [])
                with contextlib.suppress(
                    NameError, AttributeError
                ):  # of a base that is not torch's
                    exec(compile(part, str(each), "exec"), vars(module))
    return module


def load_efficient_kan(path: str) -> type[nn.Module]:
    """The KANLinear class of an efficient-kan source."""
    module = _load(path, "src/efficient_kan/kan.py")
    for name in ("KANLinear", "KANLinearModule"):
        if hasattr(module, name):
            return getattr(module, name)
    raise ImportError(f"{path} defines neither KANLinear nor KANLinearModule")


def efficient_kan_layer() -> type[nn.Module] | None:
    """The layer of efficient-kan, or None and a line that says why."""
    try:
        return load_efficient_kan(real_libraries.efficient_kan()[0])
    except real_libraries.Missing as why:
        print(f"efficient-kan is left out: {why}")
        return None


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


def pykan_model(widths: Sequence[int], grid_size: int, spline_order: int) -> nn.Module:
    """As a script makes it; `speed()` is up to the caller."""
    from kan import KAN

    # it writes a checkpoint of itself wherever it is told to
    return KAN(
        list(widths), grid=grid_size, k=spline_order, auto_save=False, ckpt_path=tempfile.mkdtemp()
    )


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
    if layer := efficient_kan_layer():
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
        makers["pykan"] = lambda: pykan_model(widths, grid_size, spline_order).speed()
        makers["accelerated pykan"] = lambda: kan_fast.accelerate(makers["pykan"](), strict=True)
    return _built(makers)


def full_models(
    widths: Sequence[int], num_basis: int, compiled: bool = False
) -> dict[str, dict[str, nn.Module]]:
    """By family: the same-parameter MLP, our layers and the peer's as it is, accelerated and
    compiled."""
    # one more parameter an edge: fast-kan's base branch, the constant of the polynomials
    families = {
        "gaussian": (kan_fast.GaussianKANLinear, {"num_basis": num_basis}),
        "chebyshev": (kan_fast.ChebyshevKANLinear, {"degree": num_basis}),
    }
    found = {}
    for family, (layer, options) in families.items():
        makers = {
            "mlp": lambda: mlp(same_parameter_widths(widths, num_basis, 0)),
            "kan_fast": lambda layer=layer, options=options: stack(layer, widths, **options),
        }
        peer = full_peer(family)
        if peer is not None:
            name, cls, theirs = peer[0], peer[1], {peer[2]: num_basis}
            make = functools.partial(stack, cls, widths, **theirs)
            makers[name] = make
            makers[f"accelerated {name}"] = lambda make=make: kan_fast.accelerate(
                make(), strict=True
            )
            if compiled:
                makers[f"compiled {name}"] = lambda make=make: torch.compile(make())
        found[family] = _built(makers)
    return found


def full_peer(family: str) -> tuple[str, type[nn.Module], str] | None:
    """Name, class and the option for the number of functions of a public layer, if one is named."""
    try:
        if family == "gaussian":
            return "fast-kan", load_classes(real_libraries.fast_kan()).FastKANLayer, "num_grids"
        classes = vars(load_classes(real_libraries.cheby_kan()))
    except real_libraries.Missing as why:
        print(f"{family} peer is left out: {why}")
        return None
    names = ("ChebyKANLayer", "ChebyshevKANLayer")
    return "ChebyKAN", next(classes[n] for n in names if n in classes), "degree"


def _built(makers: dict[str, Callable[[], nn.Module]]) -> dict[str, nn.Module]:
    """What can be built; the rest is left out with a line."""
    found: dict[str, nn.Module] = {}
    for name, make in makers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = make()
        except Exception as error:  # a peer's own trouble
            print(f"{name} is left out: {type(error).__name__}: {error}")
    return found
