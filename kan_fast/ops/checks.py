"""Whether tensors fit together as a layer: quickly, and in sentences where they do not."""

from __future__ import annotations

import torch
from torch import Tensor

from kan_fast.errors import DtypeError, ShapeError


def fits(
    columns: int,
    dtype: torch.dtype,
    device: torch.device,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
) -> bool:
    """Whether `check` raises nothing for an input with so many columns: the same conditions in a
    microsecond, which counts on a small layer.
    """
    shape = spline_weight.shape
    if len(shape) != 3 or not 0 <= spline_order < shape[2]:
        return False
    edges = shape[:2]
    return (
        columns == shape[1]
        and knots.shape == (shape[1], shape[2] + spline_order + 1)
        and (spline_scaler is None or spline_scaler.shape == edges)
        and (base_weight is None or base_weight.shape == edges)
        and dtype.is_floating_point
        and spline_weight.dtype is dtype
        and knots.dtype is dtype
        and (spline_scaler is None or spline_scaler.dtype is dtype)
        and (base_weight is None or base_weight.dtype is dtype)
        and spline_weight.device == device
        and knots.device == device
        and (spline_scaler is None or spline_scaler.device == device)
        and (base_weight is None or base_weight.device == device)
        and not knots.requires_grad
    )


def check(
    x: Tensor,
    knots: Tensor,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_weight: Tensor | None,
    spline_order: int,
) -> None:
    """Raises a sentence for anything that does not fit together."""
    if spline_weight.dim() != 3:
        raise ShapeError(
            "kan_linear: spline_weight must have shape [out_features, in_features, num_basis], got "
            f"{list(spline_weight.shape)}"
        )
    out_features, in_features, num_basis = spline_weight.shape
    if spline_order < 0 or num_basis <= spline_order:
        raise ShapeError(
            "kan_linear: spline_order must be at least 0 and below num_basis = grid_size + "
            f"spline_order, got spline_order={spline_order} and num_basis={num_basis}"
        )
    if x.dim() < 1 or x.shape[-1] != in_features:
        raise ShapeError(
            f"kan_linear: x must have shape [..., in_features={in_features}], got {list(x.shape)}"
        )
    grid_size = num_basis - spline_order
    expected = {
        "knots": (knots, [in_features, num_basis + spline_order + 1]),
        "spline_scaler": (spline_scaler, [out_features, in_features]),
        "base_weight": (base_weight, [out_features, in_features]),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and list(tensor.shape) != shape:
            raise ShapeError(
                f"kan_linear: {name} must have shape {shape} for spline_weight "
                f"{list(spline_weight.shape)}, grid_size={grid_size} and "
                f"spline_order={spline_order}; got {list(tensor.shape)}"
            )
    if not x.is_floating_point():
        raise DtypeError(
            f"kan_linear: x must be a floating-point tensor, got {x.dtype}; call x.float()"
        )
    given = {"spline_weight": spline_weight, **{name: t for name, (t, _) in expected.items()}}
    for name, tensor in given.items():
        if tensor is None:
            continue
        if tensor.device != x.device:
            raise DtypeError(
                f"kan_linear: x and {name} must be on the same device, got {x.device} and "
                f"{tensor.device}; move one with .to()"
            )
        if tensor.dtype != x.dtype:
            raise DtypeError(
                f"kan_linear: x and {name} must have the same dtype, got {x.dtype} and "
                f"{tensor.dtype}; call x.to({tensor.dtype}) or move the layer with .to({x.dtype})"
            )
    if knots.requires_grad:
        raise DtypeError(
            "kan_linear: knots must not require a gradient (none is defined for them), got knots "
            "with requires_grad=True; pass knots.detach()"
        )
