"""The paper's regularisers: L1 and entropy of the sizes of edges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan_fast import reference
from kan_fast.layers.activations import known_activation
from kan_fast.ops.gram import edge_mean_size, edge_statistics
from kan_fast.spec import WindowedBasis


def l1_and_entropy(size: Tensor, activation: float, entropy: float) -> Tensor:
    """activation * sum s - entropy * sum p log p with p = s / sum s; an edge of size zero adds
    nothing, and its gradient is finite.

    Args:
        size: `[out_features, in_features]`, not negative.
    """
    total = size.sum()
    tiny = torch.finfo(size.dtype).tiny
    p = size / torch.where(total > 0, total, 1)
    return activation * total - entropy * (p * p.clamp_min(tiny).log()).sum()


def edge_penalty(layer: Any, x: Tensor, size: str, activation: float, entropy: float) -> Tensor:
    """`l1_and_entropy` of the edge functions of a `KANLinear` over the rows of `x`."""
    name = known_activation(layer.base_activation)
    if not isinstance(name, str):
        raise ValueError(
            "activation_regularization_loss: base_activation must be one that the kernels know, "
            f"got {layer.base_activation}"
        )
    scaler = layer.spline_scaler if layer.enable_standalone_scale_spline else None
    weight = reference.fold(layer.spline_weight, scaler, layer.base_weight)
    basis = WindowedBasis(layer.spline_order, name)
    if size == "l1":
        sizes = edge_mean_size(x, layer.grid, weight, basis)
    elif size == "std":
        _, variance = edge_statistics(x, layer.grid, weight, basis)
        # the root's gradient at zero is zero, not infinite: pruned edges stay pruned
        positive = variance > 0
        sizes = torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)
    else:
        raise ValueError(
            f"activation_regularization_loss: size must be 'l1' or 'std', got {size!r}"
        )
    return l1_and_entropy(sizes, activation, entropy).to(layer.spline_weight.dtype)
