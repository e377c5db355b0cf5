"""`GaussianKANLinear`: Gaussian radial basis functions on every edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast.errors import ShapeError
from kan_fast.layers.activations import known_activation
from kan_fast.layers.hooks import is_plain
from kan_fast.ops.full_basis import gaussian_rbf_layer, gaussian_rbf_linear


class _Centers(nn.Module):
    """Evenly spaced centers; the width of a function is their distance."""

    def __init__(self, num_basis: int, low: float, high: float, **factory: Any) -> None:
        super().__init__()
        grid = torch.linspace(low, high, num_basis, **factory)
        self.grid = nn.Parameter(grid, requires_grad=False)
        self.denominator = (high - low) / (num_basis - 1)


class GaussianKANLinear(nn.Module):
    """A KAN layer of Gaussians of the normalised input, and a base activation of the input.

    y = sum_g W_g exp(-((layernorm(x) - u_g) / w)^2) + base_linear(base_activation(x))

    Args:
        in_features: size of the last dimension of the input, >= 1.
        out_features: size of the last dimension of the output.
        num_basis: centers, >= 2.
        grid_range: `(low, high)` of the centers.
        layer_norm: whether inputs of the Gaussians are normalised.
        base: whether there is a base branch.
        base_activation: any function of tensors.
        scale_weight: standard deviation of the first weights.
        device, dtype: as in `nn.Linear`.

    State: names, shapes and, for a seed, first values of fast-kan's FastKANLayer:
    `layernorm.weight`, `layernorm.bias`, `rbf.grid` `[num_basis]`, `spline_linear.weight`
    `[out_features, in_features * num_basis]`, `base_linear.weight`, `base_linear.bias`.

    Source: fast-kan 17b6540 (interface and initialisation).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_basis: int = 8,
        grid_range: Sequence[float] = (-2, 2),
        layer_norm: bool = True,
        base: bool = True,
        base_activation: Callable[[Tensor], Tensor] = F.silu,
        scale_weight: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        low, high = grid_range
        if in_features < 1 or out_features < 0 or num_basis < 2 or not low < high:
            raise ShapeError(
                "GaussianKANLinear: in_features must be at least 1, out_features 0, num_basis 2 "
                f"and grid_range (low, high) with low < high; got in_features={in_features}, "
                f"out_features={out_features}, num_basis={num_basis}, grid_range={grid_range}"
            )
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features = in_features, out_features
        self.num_basis, self.grid_range = num_basis, (low, high)
        self.scale_weight = scale_weight
        self.layernorm = nn.LayerNorm(in_features, **factory) if layer_norm else None
        self.rbf = _Centers(num_basis, low, high, **factory)
        self.spline_linear = nn.Linear(in_features * num_basis, out_features, False, **factory)
        nn.init.trunc_normal_(self.spline_linear.weight, std=scale_weight)
        self.base_activation = base_activation
        self.base_linear = nn.Linear(in_features, out_features, **factory) if base else None

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        return gaussian_layer(self, x, self.rbf.grid)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"num_basis={self.num_basis}, grid_range={self.grid_range}"
        )


def gaussian_layer(layer: Any, x: Tensor, centers: Tensor) -> Tensor:
    """The layer on `x`, for ours and for fast-kan's, whose attributes have the same names."""
    weight = layer.spline_linear.weight
    out_features, columns = weight.shape
    in_features = columns // centers.shape[0]
    weight = weight.reshape(out_features, in_features, centers.shape[0])
    width = layer.rbf.denominator
    norm = getattr(layer, "layernorm", None)
    base = getattr(layer, "base_linear", None)
    activation = "zero" if base is None else known_activation(layer.base_activation)
    if isinstance(activation, str) and x.dim() and x.shape[-1] == in_features:
        sizes = (in_features,), (out_features, in_features)
        if _reads(norm, nn.LayerNorm, sizes[0]) and _reads(base, nn.Linear, sizes[1]):
            if norm is None or norm.normalized_shape == sizes[0]:
                return gaussian_rbf_layer(x, centers, weight, width, norm, base, activation)
    y = gaussian_rbf_linear(x if norm is None else norm(x), centers, weight, width)
    return y if base is None else y + base(layer.base_activation(x))


def _reads(module: nn.Module | None, cls: type[nn.Module], shape: tuple[int, ...]) -> bool:
    """Whether its tensors may be read instead of calling it."""
    if module is None:
        return True
    if not is_plain(module, cls):
        return False
    weight, bias = module.weight, module.bias
    if weight is not None and weight.shape != shape:
        return False
    return bias is None or (
        weight is not None and bias.dtype is weight.dtype and bias.shape == shape[:1]
    )
