"""Checkpoints of one format in the names and layouts of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kan_fast.errors import ConversionError


def state_dict(
    checkpoint: Mapping[str, Tensor], to: str, prefixes: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """A checkpoint of one format in the names and layouts of another; no module is needed.

    Args:
        checkpoint: of a pykan model, or of a model with `layers` of efficient-kan or kan_fast (the
            same names). Base functions are not in checkpoints: both models must have the same.
        to: "pykan", "efficient-kan" or "kan_fast".
        prefixes: of the layers in the checkpoint, in order; found by themselves where None.

    Returns:
        what `load_state_dict` of a model of those sizes takes; for pykan with `strict=False`, which
        keeps its idle symbolic branch.

    Raises:
        ConversionError: a format that is not known; symbols, products or biases of nodes.
    """
    if to not in ("pykan", "efficient-kan", "kan_fast"):
        raise ConversionError(
            f"convert: to must be 'pykan', 'efficient-kan' or 'kan_fast', got {to!r}"
        )
    pykan_names = [k.removesuffix("coef") for k in checkpoint if k.endswith("coef")]
    linear_names = [
        k.removesuffix("spline_weight") for k in checkpoint if k.endswith("spline_weight")
    ]
    prefixes = list(prefixes) if prefixes is not None else pykan_names or linear_names
    if not prefixes:
        raise ConversionError("convert: the checkpoint has neither coef nor spline_weight in it")
    found: dict[str, Tensor] = {}
    for n, prefix in enumerate(prefixes):
        part = {k.removeprefix(prefix): t for k, t in checkpoint.items() if k.startswith(prefix)}
        splines = _from_pykan_part(checkpoint, n, part) if "coef" in part else part
        if to != "pykan":
            names = ("grid", "base_weight", "spline_weight", "spline_scaler")
            found |= {f"layers.{n}.{k}": splines[k].clone() for k in names if k in splines}
            continue
        base = splines["base_weight"]
        scaler = splines.get("spline_scaler", torch.ones_like(base))
        found |= {
            f"act_fun.{n}.grid": splines["grid"].clone(),
            f"act_fun.{n}.coef": splines["spline_weight"].transpose(0, 1).contiguous(),
            f"act_fun.{n}.mask": torch.ones_like(base.t()),
            f"act_fun.{n}.scale_base": base.t().contiguous(),
            f"act_fun.{n}.scale_sp": scaler.t().contiguous(),
        }
    return found


def _from_pykan_part(
    checkpoint: Mapping[str, Tensor], n: int, part: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    for name in (f"node_bias_{n}", f"subnode_bias_{n}", f"symbolic_fun.{n}.mask"):
        if name in checkpoint and bool(checkpoint[name].any()):
            raise ConversionError(
                f"convert: {name} of the checkpoint is not zero; other formats have neither "
                "symbols nor biases of nodes"
            )
    scale = torch.ones_like(part["mask"])
    sizes = []
    for name in (f"node_scale_{n}", f"subnode_scale_{n}"):
        if name in checkpoint:
            sizes.append(checkpoint[name].shape[0])
            if sizes[-1] != scale.shape[1]:
                raise ConversionError(
                    f"convert: layer {n} of the checkpoint has multiplication nodes, which other "
                    "formats do not have"
                )
            scale = scale * checkpoint[name]
    return {
        "grid": part["grid"],
        "spline_weight": part["coef"].transpose(0, 1).contiguous(),
        "spline_scaler": (part["scale_sp"] * part["mask"] * scale).t().contiguous(),
        "base_weight": (part["scale_base"] * part["mask"] * scale).t().contiguous(),
    }
