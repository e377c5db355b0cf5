"""One plot a question: how does the step over the same-parameter MLP depend on rows, width, G, k?

    python bench/sweep.py [--seconds 0.5] [--no-peers] [--json FILE] [--plot FILE.png]

One layer at a time; what is not swept stays at 1024 rows, 64-64, grid_size 5, spline_order 3.
"""

from __future__ import annotations

import functools
import statistics
from dataclasses import replace
from pathlib import Path

import options
import peers
import timing
import torch
from shapes import Shape

BASE = Shape(1024, (64, 64), 5)
SWEEPS: dict[str, dict[int, Shape]] = {
    "rows": {n: replace(BASE, rows=n) for n in (1, 16, 64, 256, 1024, 4096, 16384, 65536)},
    "width": {n: replace(BASE, widths=(n, n)) for n in (4, 8, 16, 32, 64, 128, 256, 512)},
    "grid_size": {n: replace(BASE, grid_size=n) for n in (1, 3, 5, 10, 20, 50, 100, 200)},
    "spline_order": {n: replace(BASE, spline_order=n) for n in range(1, 8)},
}
#: shown in the plots, in this order
SHOWN = ("kan_fast", "efficient-kan", "inkan", "pykan", "equal-width mlp")


def measure(shape: Shape, seconds: float, with_peers: bool) -> dict:
    """Ratios of all entrants to the MLP, and the floor: the share of terms that are not zero."""
    torch.manual_seed(0)
    x = shape.inputs().requires_grad_()
    layout = (shape.widths, shape.grid_size, shape.spline_order)
    entrants = peers.ours(*layout)
    if with_peers:
        entrants |= {n: m for n, m in peers.models(*layout).items() if n in SHOWN}
    runs = {name: functools.partial(timing.step, model, x) for name, model in entrants.items()}
    times = timing.interleaved(runs, seconds, "mlp")
    return {
        "mlp_seconds": statistics.median(times["mlp"]),
        "floor": shape.floor,
        "over_mlp": {n: timing.ratio(t, times["mlp"]) for n, t in times.items() if n != "mlp"},
    }


def draw(result: dict, file: Path) -> None:
    """Four panels, ratio to the MLP on a logarithmic axis, quartiles as bands."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(16, 4), sharey=True)
    for axis, (question, points) in zip(axes, result["sweeps"].items(), strict=True):
        at = [int(n) for n in points]
        for n, name in enumerate(SHOWN):
            ratios = [p["over_mlp"].get(name) for p in points.values()]
            if not all(ratios):
                continue
            color = f"C{n}"
            axis.plot(at, [r["median"] for r in ratios], "o-", ms=3, label=name, color=color)
            low, high = ([r[end] for r in ratios] for end in ("low", "high"))
            axis.fill_between(at, low, high, alpha=0.2, color=color)
        axis.plot(at, [p["floor"] for p in points.values()], "k:", label="floor of arithmetic")
        axis.axhline(1, color="k", lw=0.8)
        axis.set(xlabel=question, yscale="log")
        if question != "spline_order":
            axis.set_xscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("step / step of the same-parameter MLP")
    axes[0].legend(fontsize=8)
    m = result["machine"]
    figure.suptitle(
        f"1024 rows, 64-64, grid_size 5, spline_order 3 unless swept · {m['cpu']}, "
        f"{m['threads']} threads, {m['isa']}, torch {m['torch']}",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = options.parser(__doc__, seconds=0.5)
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLP")
    parser.add_argument("--plot", type=Path, help="draw them here")
    args, info = options.start(parser)
    result = {"machine": info, "sweeps": {}}
    for question, shapes in SWEEPS.items():
        points = result["sweeps"][question] = {}
        for n, shape in shapes.items():
            points[str(n)] = found = measure(shape, args.seconds, not args.no_peers)
            cells = "  ".join(f"{e} {r['median']:.2f}" for e, r in found["over_mlp"].items())
            print(f"{question:13s} {n:6d}  floor {found['floor']:.2f}  {cells}", flush=True)
    options.save(args, result)
    if args.plot:
        draw(result, args.plot)


if __name__ == "__main__":
    main()
