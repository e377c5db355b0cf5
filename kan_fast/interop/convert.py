"""Exact conversion of spline layers and models between kan_fast, efficient-kan and pykan.

Parameters are copied, never fitted: results differ by the order of summation alone. What a format
cannot express is refused in a sentence. So an efficient-kan model gets pykan's plots, pruning and
formulas, and a pykan model runs as a `kan_fast.KAN`.

    model = kan_fast.convert.to_pykan(trained, kan.KAN)
    model = kan_fast.convert.to_kan_fast(pykan_model)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.errors import ConversionError
from kan_fast.interop.adapters import chebykan, efficient_kan, fast_kan
from kan_fast.interop.adapters.pykan import grid as pykan_grid
from kan_fast.interop.adapters.pykan import layer as pykan_layer
from kan_fast.interop.adapters.pykan import model as pykan
from kan_fast.interop.checkpoints import state_dict
from kan_fast.layers.activations import known_activation, module_of
from kan_fast.layers.chebyshev import ChebyshevKANLinear
from kan_fast.layers.gaussian import GaussianKANLinear
from kan_fast.layers.network import KAN
from kan_fast.layers.spline import KANLinear

__all__ = ["state_dict", "to_efficient_kan", "to_kan_fast", "to_pykan"]


@dataclass(frozen=True)
class _Splines:
    """A spline layer in the words of kan_fast; scales are `[out_features, in_features]`."""

    grid: Tensor
    spline_weight: Tensor
    spline_scaler: Tensor | None
    base_weight: Tensor
    spline_order: int
    activation: str | Callable[[Tensor], Tensor]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """in_features, out_features, grid_size."""
        out_features, in_features, num_basis = self.spline_weight.shape
        return in_features, out_features, num_basis - self.spline_order


def _read(layer: Any) -> _Splines:
    if isinstance(layer, KANLinear) or efficient_kan.is_candidate(layer):
        standalone = getattr(layer, "enable_standalone_scale_spline", True)
        return _Splines(
            layer.grid, layer.spline_weight, layer.spline_scaler if standalone else None,
            layer.base_weight, layer.spline_order, known_activation(layer.base_activation),
        )  # fmt: skip
    if pykan_layer.is_candidate(layer):
        if not pykan_grid.regular(layer.grid):
            raise ConversionError(
                "convert: knots of a pykan layer coincide, and its functions are not the usual "
                "splines there; move them apart or update its grid with other data"
            )
        activation = known_activation(layer.base_fun)
        return _Splines(layer.grid, *pykan_layer.weights(layer), layer.k, activation)
    raise ConversionError(
        "convert: expected a spline layer of kan_fast, efficient-kan or pykan, got "
        f"{type(layer).__name__}"
    )


def _read_pykan(model: Any) -> list[_Splines]:
    """The layers of a pykan model, its scales of nodes folded in."""
    if any(products for _, products in model.width):
        raise ConversionError(
            "convert: the pykan model has multiplication nodes, which other formats do not have"
        )
    if any(bool(layer.mask.any()) for layer in model.symbolic_fun):
        raise ConversionError(
            "convert: the pykan model has symbolic edges, which other formats do not have; call "
            "model.unfix_symbolic_all() first if their splines are to be used"
        )
    if model.input_id.tolist() != list(range(model.width_in[0])):
        raise ConversionError(
            f"convert: the pykan model uses inputs {model.input_id.tolist()} alone, and other "
            "formats use all; give its first layer those inputs yourself"
        )
    found = []
    for n, layer in enumerate(model.act_fun):
        if bool(model.subnode_bias[n].any()) or bool(model.node_bias[n].any()):
            raise ConversionError(
                f"convert: layer {n} of the pykan model has node biases, which other formats do "
                "not have"
            )
        splines = _read(layer)
        scale = (model.node_scale[n] * model.subnode_scale[n]).unsqueeze(1)
        # what no kernel knows stays the callable that it is
        activation = pykan.activation_of(layer) or splines.activation
        found.append(
            _Splines(
                splines.grid,
                splines.spline_weight,
                splines.spline_scaler * scale,
                splines.base_weight * scale,
                splines.spline_order,
                activation,
            )  # fmt: skip
        )
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


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def _factory(activation: Any) -> Callable[[], Any]:
    """What a layer calls to get its base activation."""
    if isinstance(activation, str):
        return module_of(activation) or _Zero
    return lambda: activation


@torch.no_grad()
def _linear(splines: _Splines, cls: type[nn.Module]) -> nn.Module:
    """A layer of KANLinear's interface with the tensors of another."""
    in_features, out_features, grid_size = splines.sizes
    layer: Any = cls(
        in_features, out_features, grid_size=grid_size, spline_order=splines.spline_order,
        enable_standalone_scale_spline=splines.spline_scaler is not None,
        base_activation=_factory(splines.activation),
    )  # fmt: skip
    layer.to(splines.spline_weight)
    layer.grid.copy_(splines.grid)
    layer.spline_weight.copy_(splines.spline_weight)
    layer.base_weight.copy_(splines.base_weight)
    if splines.spline_scaler is not None:
        layer.spline_scaler.copy_(splines.spline_scaler)
    return layer


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
    if pykan.is_candidate(module):
        return _stack([_linear(s, KANLinear) for s in _read_pykan(module)])
    if fast_kan.is_candidate(module):
        return _gaussian(module)
    if chebykan.is_candidate(module):
        return _chebyshev(module)
    if pykan_layer.is_candidate(module) or efficient_kan.is_candidate(module):
        return _linear(_read(module), KANLinear)
    return _stack([to_kan_fast(layer) for layer in _chain(module)])


def _stack(layers: list[nn.Module]) -> nn.Module:
    kinds = {
        (layer.grid_size, layer.spline_order, type(layer.base_activation))
        for layer in layers
        if isinstance(layer, KANLinear)
    }
    if len(kinds) != 1 or not all(isinstance(layer, KANLinear) for layer in layers):
        return nn.Sequential(*layers)
    ((grid_size, order, _),) = kinds
    widths = [layers[0].in_features, *[layer.out_features for layer in layers]]
    # empty ones, whose places the converted layers take
    model = KAN(widths, grid_size, order, device="meta")
    model.layers = nn.ModuleList(layers)
    return model


@torch.no_grad()
def _gaussian(layer: Any) -> GaussianKANLinear:
    grid, weight = layer.rbf.grid, layer.spline_linear.weight
    norm, base = getattr(layer, "layernorm", None), getattr(layer, "base_linear", None)
    found = GaussianKANLinear(
        weight.shape[1] // grid.numel(), weight.shape[0], grid.numel(),
        (float(grid[0]), float(grid[-1])), norm is not None, base is not None,
        getattr(layer, "base_activation", None), device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    found.load_state_dict(layer.state_dict())
    found.rbf.denominator = layer.rbf.denominator
    if norm is not None:
        found.layernorm.eps = norm.eps
    return found


@torch.no_grad()
def _chebyshev(layer: Any) -> ChebyshevKANLinear:
    coeffs = layer.cheby_coeffs
    found = ChebyshevKANLinear(
        layer.inputdim, layer.outdim, layer.degree, device=coeffs.device, dtype=coeffs.dtype
    )
    found.weight.copy_(coeffs.transpose(0, 1))
    return found


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
    if pykan.is_candidate(module):
        return nn.Sequential(*[_linear(s, cls) for s in _read_pykan(module)])
    if pykan_layer.is_candidate(module) or isinstance(module, KANLinear):
        return _linear(_read(module), cls)
    return nn.Sequential(*[_linear(_read(layer), cls) for layer in _chain(module)])


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
    one = isinstance(module, KANLinear) or efficient_kan.is_candidate(module)
    found = [_read(layer) for layer in ([module] if one else _chain(module))]
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
        scaler = torch.ones_like(s.base_weight) if s.spline_scaler is None else s.spline_scaler
        layer.grid.data = s.grid.detach().clone()
        layer.coef.data = s.spline_weight.detach().transpose(0, 1).clone()
        layer.scale_sp.data = scaler.detach().t().clone()
        layer.scale_base.data = s.base_weight.detach().t().clone()
        layer.mask.data = torch.ones_like(layer.scale_sp)
    return model
