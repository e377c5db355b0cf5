"""Whether trainings end where they would have: loss curves of each library, plain and accelerated.

    python bench/outcomes.py [--seeds 10] [--steps 200] [--only NAME] [--json FILE] [--plot FILE]

Rounding grows in a training. So a plain one is compared with others from the same start, all of
float32: the accelerated one; "perturbed", a plain one whose parameters were multiplied by
1 + 1e-7 N(0, 1) once, before the first step; and under Adam "reordered", a plain one on the same
rows in another order, which rounds differently at every step, as other kernels do. The distance of
two curves is the largest |log10 of the ratio of their losses| over all steps, that of two ends the
same at the last step. The criterion, for both: the median over seeds of the distance between plain
and accelerated is not above the largest distance of plain from itself, over seeds and both ways.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import options
import real_libraries
import torch
from peers import load_classes, load_efficient_kan
from torch import Tensor, nn

import kan_fast

PERTURBATION = 1e-7
#: how plain is made to differ from itself
WAYS = ("perturbed", "reordered")
ROWS = 200
#: losses below are equal: what is left of them is rounding
SMALLEST = 1e-12


class Stack(nn.Module):
    """Layers in turn; those of pykan return a tuple whose first part is the output."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            y = layer(x)
            x = y[0] if isinstance(y, tuple) else y
        return x


def data(seed: int, reordered: bool = False) -> tuple[Tensor, Tensor]:
    """The function of pykan's first notebook on points of the square."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((ROWS, 2), generator=generator) * 2 - 1
    if reordered:
        x = x[torch.randperm(ROWS, generator=generator)]
    return x, torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)


def by_adam(model: nn.Module, seed: int, steps: int, reordered: bool = False) -> list[float]:
    """Losses of a training in full batches."""
    x, y = data(seed, reordered)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def by_fit(model: nn.Module, seed: int, steps: int) -> list[float]:
    """pykan's own training: LBFGS, with grid updates in the first half."""
    x, y = data(seed)
    given = {"train_input": x, "train_label": y, "test_input": x, "test_label": y}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(seed)
        found = model.fit(given, opt="LBFGS", steps=steps, log=steps + 1)
    return [float(loss) ** 2 for loss in found["train_loss"]]


Train = Callable[..., list[float]]


def _pykan() -> object:
    folder = real_libraries.pykan()
    if folder not in sys.path:
        sys.path.append(folder)
    import kan

    return kan


def cases() -> dict[str, tuple[Callable[[int], nn.Module], Train]]:
    """A small model of each library, from a seed, and how its users train it."""
    efficient = load_efficient_kan(real_libraries.efficient_kan()[-1])
    fast = load_classes(real_libraries.fast_kan()).FastKANLayer
    cheby = load_classes(real_libraries.cheby_kan()).ChebyshevKANLayer
    kan = _pykan()
    folder = tempfile.mkdtemp()  # for its checkpoints

    def model(seed: int) -> nn.Module:
        return kan.KAN([2, 5, 1], grid=5, k=3, seed=seed, auto_save=False, ckpt_path=folder)

    return {
        "efficient-kan": (lambda seed: Stack(efficient(2, 8), efficient(8, 1)), by_adam),
        "fast-kan": (lambda seed: Stack(fast(2, 8), fast(8, 1)), by_adam),
        "ChebyKAN": (lambda seed: Stack(cheby(2, 8, 4), cheby(8, 1, 4)), by_adam),
        "pykan": (model, by_fit),
        "pykan layer": (lambda seed: Stack(kan.KANLayer(2, 5), kan.KANLayer(5, 1)), by_adam),
    }


def perturbed(model: nn.Module, seed: int) -> nn.Module:
    """The same with every trained number a rounding or so away."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.copy_(p.double() * (1 + PERTURBATION * noise))
    return model


def gaps(ours: list[float], theirs: list[float]) -> list[float]:
    """|log10 of the ratio of losses| at each step; infinite where only one is not finite."""
    found = []
    for a, b in zip(ours, theirs, strict=True):
        if math.isfinite(a) and math.isfinite(b):
            found.append(abs(math.log10(max(a, SMALLEST)) - math.log10(max(b, SMALLEST))))
        else:
            found.append(math.inf if math.isfinite(a) != math.isfinite(b) else 0.0)
    return found


def measure(make: Callable[[int], nn.Module], train: Train, seeds: int, steps: int) -> dict:
    """The curves of one library and their distances."""
    curves: list[list[float]] = []
    apart: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        start = make(seed)
        losses = {
            "accelerated": train(
                kan_fast.accelerate(copy.deepcopy(start), strict=True), seed, steps
            ),
            "perturbed": train(perturbed(copy.deepcopy(start), seed), seed, steps),
        }
        if train is by_adam:
            losses["reordered"] = train(copy.deepcopy(start), seed, steps, True)
        curves.append(train(start, seed, steps))
        for name, found in losses.items():
            apart.setdefault(name, []).append(gaps(found, curves[-1]))
    result = {"steps": steps, "seeds": seeds, "optimizer": train.__name__.removeprefix("by_")}
    for name, all_gaps in apart.items():
        result[name] = {
            "curve": [max(one) for one in all_gaps],
            "end": [one[-1] for one in all_gaps],
            "median_by_step": by_step(statistics.median, all_gaps),
            "largest_by_step": by_step(max, all_gaps),
        }
    result["loss_median_by_step"] = by_step(statistics.median, curves)
    result["loss_first_and_last"] = [[one[0], one[-1]] for one in curves]
    for name in ("curve", "end"):
        median = statistics.median(result["accelerated"][name])
        itself = [result[way][name] for way in WAYS if way in result]
        result[f"{name}_holds"] = median <= max(map(max, itself))
    return result


def by_step(pick: Callable[[list[float]], float], curves: list[list[float]]) -> list[float]:
    return [float(f"{pick(list(column)):.4g}") for column in zip(*curves, strict=True)]


def line(name: str, row: dict) -> str:
    """One library, as a row of the table in docs/outcomes.md."""
    cells = [name, f"{statistics.median(end for _, end in row['loss_first_and_last']):.2g}"]
    for kind in ("curve", "end"):
        for who in ("accelerated", *WAYS):
            found = row[who][kind] if who in row else None
            cells.append(f"{statistics.median(found):.1e} ({max(found):.1e})" if found else "")
        cells.append("yes" if row[f"{kind}_holds"] else "**no**")
    return "| " + " | ".join(cells) + " |"


COLOURS = {"perturbed": "tab:orange", "reordered": "tab:green", "accelerated": "tab:blue"}


def plot(rows: dict[str, dict], path: Path) -> None:
    """Losses above, distances below: the median over seeds, and the largest as a shade."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(rows), figsize=(3 * len(rows), 5), squeeze=False)
    for n, (name, row) in enumerate(rows.items()):
        above, below = axes[:, n]
        above.semilogy(row["loss_median_by_step"], color="black")
        above.set_title(f"{name} ({row['optimizer']})")
        for who, colour in COLOURS.items():
            if who not in row:
                continue
            # a difference of zero has no place on this axis
            median, largest = (
                [max(v, 1e-9) for v in row[who][f"{kind}_by_step"]]
                for kind in ("median", "largest")
            )
            below.semilogy(median, color=colour, label=who)
            below.fill_between(range(len(median)), median, largest, color=colour, alpha=0.2)
        below.set_xlabel("step")
    axes[0, 0].set_ylabel("loss, plain")
    axes[1, 0].set_ylabel("|log10(loss / plain's)|")
    axes[1, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    parser = options.parser(__doc__, seconds=0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="of Adam; LBFGS does a tenth")
    parser.add_argument("--only", help="one library")
    parser.add_argument("--plot", type=Path, help="draw the figure here")
    args, info = options.start(parser)
    # libraries measured before, in the same file
    rows = (options.saved(args) or {"rows": {}})["rows"]
    for name, (make, train) in options.selected(cases(), args.only):
        # each of LBFGS evaluates the loss up to twenty times
        steps = args.steps if train is by_adam else args.steps // 10
        rows[name] = {"machine": info, **measure(make, train, args.seeds, steps)}
        print(line(name, rows[name]), flush=True)
        options.save(args, {"perturbation": PERTURBATION, "rows": rows})
    if args.plot:
        plot({name: rows[name] for name in cases() if name in rows}, args.plot)


if __name__ == "__main__":
    main()
