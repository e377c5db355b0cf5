"""Exact conversion of spline layers and models between kan_fast, efficient-kan and pykan.

Parameters are copied, never fitted: results differ by the order of summation alone. What a format
cannot express is refused in a sentence. So an efficient-kan model gets pykan's plots, pruning and
formulas, and a pykan model runs as a `kan_fast.KAN`.

    model = kan_fast.convert.to_pykan(trained, kan.KAN)
    model = kan_fast.convert.to_kan_fast(pykan_model)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kan_fast.errors import ConversionError
from kan_fast.interop.adapters import adapter_of, describer_of
from kan_fast.interop.adapters.base import Adapter, no_splines
from kan_fast.interop.checkpoints import state_dict
from kan_fast.layers.edges import Splines
from kan_fast.layers.network import stacked

__all__ = ["state_dict", "to_efficient_kan", "to_kan_fast", "to_pykan"]


def _read(module: nn.Module, *made: str) -> Splines | list[Splines]:
    """The splines of a layer, or of the layers of a model or chain.

    Args:
        made: kinds of the format to be made; what has it already is not taken, unless in a chain.
    """
    adapter = describer_of(module)
    if adapter is None or adapter.kind in made or type(adapter).splines is Adapter.splines:
        return [_of_layer(layer) for layer in _chain(module)]
    return adapter.splines(module)


def _of_layer(layer: nn.Module) -> Splines:
    adapter = describer_of(layer)
    found = None if adapter is None else adapter.splines(layer)
    if not isinstance(found, Splines):
        raise no_splines(layer)
    return found


def _chain(model: nn.Module) -> list[nn.Module]:
    """The KAN layers of a model that is nothing but a chain of them."""
    layers = getattr(model, "layers", None)
    layers = list(layers) if isinstance(layers, nn.ModuleList) else None
    layers = list(model) if isinstance(model, nn.Sequential) else layers
    if not layers:
        raise ConversionError(
            f"convert: expected a KAN layer or a chain of them, got {type(model).__name__}; "
            "convert its layers one by one"
        )
    return layers


def to_kan_fast(module: nn.Module) -> nn.Module:
    """The same function as a module of kan_fast.

    Args:
        module: a layer of efficient-kan, pykan, fast-kan or ChebyKAN; a pykan model; a model whose
            `layers`, or an `nn.Sequential` whose modules, are such layers.

    Returns:
        a `KANLinear`, `GaussianKANLinear` or `ChebyshevKANLinear`, or an `nn.Sequential` of them
        (a `KAN` where all are splines of one grid size, order and activation). Parameters are
        copies, on the device and in the dtype of the module.

    Raises:
        ConversionError: what kan_fast's layers do not have: multiplication nodes, symbols, biases
            of nodes, coinciding knots of pykan.
    """
    adapter = adapter_of(module)
    if adapter is not None:
        return adapter.converted(module)
    return stacked([to_kan_fast(layer) for layer in _chain(module)])


def to_efficient_kan(module: nn.Module, cls: type[nn.Module]) -> nn.Module:
    """The same function as layers of efficient-kan.

    Args:
        module: a spline layer or model of kan_fast or pykan, as in `to_kan_fast`.
        cls: the KANLinear class to make, which takes efficient-kan's arguments.

    Returns:
        a `cls`, or an `nn.Sequential` of them.

    Raises:
        ConversionError: as `to_kan_fast`.
    """
    found = _read(module, "efficient-kan")
    if isinstance(found, Splines):
        return found.module(cls)
    return nn.Sequential(*[splines.module(cls) for splines in found])


@torch.no_grad()
def to_pykan(module: nn.Module, cls: Callable[..., Any], **options: Any) -> Any:
    """The same function as a pykan model, with its plots, pruning and formulas.

    Args:
        module: a spline layer or a chain of them, of kan_fast or efficient-kan.
        cls: pykan's KAN class: `from kan import KAN`.
        options: of `cls`, such as `seed`, `ckpt_path` or `auto_save` (off where not given).

    Raises:
        ConversionError: layers with different base activations, or one that pykan does not have
            ("silu", "identity" and "zero" are its own).
    """
    found = _read(module, "pykan", "pykan layer")
    found = [found] if isinstance(found, Splines) else found
    names = {s.activation for s in found}
    if len(names) != 1 or not names <= {"silu", "identity", "zero"}:
        raise ConversionError(
            "convert: pykan has one base function for all layers, silu, identity or zero; got "
            f"{', '.join(sorted(str(n) for n in names))}"
        )
    widths = [found[0].sizes[0], *[s.sizes[1] for s in found]]
    weight = found[0].spline_weight
    model = cls(
        width=widths, grid=[s.sizes[2] for s in found], k=[s.spline_order for s in found],
        base_fun=names.pop(), **{"auto_save": False, "device": str(weight.device), **options},
    )  # fmt: skip
    # its own .to() takes a device alone
    nn.Module.to(model, device=weight.device, dtype=weight.dtype)
    for layer, s in zip(model.act_fun, found, strict=True):
        scaler = torch.ones_like(s.base) if s.spline_scaler is None else s.spline_scaler
        layer.grid.data = s.grid.detach().clone()
        layer.coef.data = s.spline_weight.detach().transpose(0, 1).clone()
        layer.scale_sp.data = scaler.detach().t().clone()
        layer.scale_base.data = s.base.detach().t().clone()
        layer.mask.data = torch.ones_like(layer.scale_sp)
    return model
