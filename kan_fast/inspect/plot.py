"""The KAN diagram: nodes, and on every edge the function that it has learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.inspect.edges import Edges, edges_of
from kan_fast.interop.adapters import describer_of

#: points of a curve
_POINTS = 80
#: room of a curve's box, in units of the distance between boxes
_BOX = 0.62
#: a diagram with more boxes in a row has none that could be read
_MOST_EDGES = 120


def plot(
    model: nn.Module,
    x: Tensor,
    in_names: Sequence[str] | None = None,
    out_names: Sequence[str] | None = None,
    title: str | None = None,
    beta: float = 3.0,
    path: str | Path | None = None,
) -> Any:
    """Draws a KAN with its learned edge functions, from inputs below to outputs above.

    An edge fades with its importance: how much it spreads over the data, relative to the edge of
    its layer that spreads most. Functions are drawn over the range that their inputs have in the
    data.

    Args:
        model: a KAN layer or a chain of them, ours or one that `accelerate` knows.
        x: an input that `model(x)` takes; a few hundred rows show the ranges.
        in_names, out_names: labels of inputs and outputs; LaTeX between `$` signs.
        title: above the diagram.
        beta: an edge of relative importance s is drawn with opacity tanh(beta s).
        path: where to save, `.png`, `.svg` or `.pdf`; None saves nothing.

    Returns:
        matplotlib's `Figure`.

    Raises:
        ValueError: the model has no KAN layers, is no chain of them, or is too wide to draw.
        ImportError: matplotlib is not installed.

    Source: Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756, fig. 2 (the diagram).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot: needs matplotlib; pip install matplotlib") from error
    layers = _layers(model, x)
    widths = [layers[0][0].weight.shape[1], *[edges.weight.shape[0] for edges, _ in layers]]
    for names, width, what in (
        (in_names, widths[0], "in_names"),
        (out_names, widths[-1], "out_names"),
    ):
        if names is not None and len(names) != width:
            raise ValueError(f"plot: {what} must hold {width} names, got {len(names)}")
    across = max(max(w, o * i) for w, o, i in zip(widths, widths[1:], widths, strict=False))
    if across > _MOST_EDGES:
        raise ValueError(
            f"plot: a layer has {across} edges, more than the {_MOST_EDGES} that can be drawn side "
            "by side; plot its layers or a pruned model"
        )
    size = (max(4.0, 0.55 * across), 2.4 * len(layers) + 1.0)
    figure = Figure(figsize=size, layout="none")
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96 if title is None else 0.9))
    axes.set_axis_off()
    axes.set_xlim(0, across)
    axes.set_ylim(-0.25, len(layers) + 0.25)
    if title is not None:
        axes.set_title(title)
    for n, (edges, inputs) in enumerate(layers):
        _draw_layer(axes, n, edges, inputs, across, beta, size)
    for n, width in enumerate(widths):
        places = _places(width, across)
        axes.plot(places, [n] * width, "o", color="black", markersize=6, zorder=4)
    for names, level, shift, side in (
        (in_names, 0, -0.1, "top"),
        (out_names, len(layers), 0.1, "bottom"),
    ):
        for name, place in zip(names or (), _places(widths[level], across), strict=False):
            axes.text(place, level + shift, name, ha="center", va=side)
    if path is not None:
        figure.savefig(path, dpi=200, bbox_inches="tight")
    return figure


def _places(count: int, across: float) -> list[float]:
    """Evenly spread over the width."""
    return [across * (n + 0.5) / count for n in range(count)]


def _layers(model: nn.Module, x: Tensor) -> list[tuple[Edges, Tensor]]:
    """The KAN layers in the order of their calls, and the input of each, `[rows, in_features]`."""
    adapter = describer_of(model)
    of_model = None if adapter is None else adapter.layers(model, x)
    if of_model is not None:
        return of_model
    known = {m: edges for m in model.modules() if (edges := edges_of(m)) is not None}
    found: list[tuple[Edges, Tensor]] = []

    def keep(module: nn.Module, args: tuple) -> None:
        rows = args[0].detach().reshape(-1, args[0].shape[-1])
        found.append((known[module], known[module].prepare(rows)))

    hooks = [module.register_forward_pre_hook(keep) for module in known]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"plot: {type(model).__name__} has no KAN layer that is known")
    for (before, _), (after, _) in zip(found, found[1:], strict=False):
        if before.weight.shape[0] != after.weight.shape[1]:
            raise ValueError(
                "plot: the model must be a chain of KAN layers, got one with "
                f"{before.weight.shape[0]} outputs before one with {after.weight.shape[1]} inputs; "
                "plot parts of the model"
            )
    return found


def _draw_layer(
    axes: Any, level: int, edges: Edges, inputs: Tensor, across: float, beta: float, size: tuple
) -> None:
    """Boxes with curves between two rows of nodes, and the lines that join them."""
    out_features, in_features, _ = edges.weight.shape
    inputs = inputs.double().cpu()
    low, high = inputs.amin(0), inputs.amax(0)
    points = low + (high - low) * torch.linspace(0, 1, _POINTS, dtype=torch.float64).unsqueeze(1)
    curves = edges.values(points)
    spread = edges.spread(inputs)
    strength = torch.tanh(beta * spread / spread.max().clamp_min(1e-30))
    sources, targets = _places(in_features, across), _places(out_features, across)
    boxes = _places(in_features * out_features, across)
    width = _BOX * min(across / len(boxes), 1.6)
    # as high as wide on paper
    height = min(0.42, width * size[0] / across * _levels(axes) / size[1])
    for i in range(in_features):
        for o in range(out_features):
            alpha = float(strength[o, i])
            center = boxes[i * out_features + o]
            middle = level + 0.5
            line = dict(color="black", alpha=alpha, linewidth=1.1, zorder=1)
            axes.plot([sources[i], center], [level, middle - height / 2], **line)
            axes.plot([center, targets[o]], [middle + height / 2, level + 1], **line)
            curve = curves[:, o, i]
            span = float(curve.max() - curve.min())
            shape = (
                curve - curve.mean() if span == 0 else (curve - curve.min()) / span - 0.5
            ) * 0.8
            horizontal = torch.linspace(-0.42, 0.42, _POINTS) * width + center
            corner = (center - width / 2, middle - height / 2)
            axes.add_patch(_box(corner, width, height, alpha))
            axes.plot(
                horizontal.tolist(), (middle + shape * height).tolist(), color="#1f4e79",
                alpha=alpha, linewidth=1.4, zorder=3,
            )  # fmt: skip


def _levels(axes: Any) -> float:
    """Height of the drawing in levels."""
    low, high = axes.get_ylim()
    return high - low


def _box(corner: tuple[float, float], width: float, height: float, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        corner,
        width,
        height,
        facecolor="white",
        edgecolor=(0, 0, 0, alpha),
        linewidth=0.8,
        zorder=2,
    )
