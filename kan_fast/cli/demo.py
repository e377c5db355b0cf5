"""Trains a digit classifier three times, step by step in turn: a plain PyTorch KAN, the same model
accelerated, and the MLP with as many parameters. Prints a table and saves a picture."""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kan_fast.baselines import mlp, same_parameter_widths
from kan_fast.cli.plain_kan import PlainKANLinear
from kan_fast.interop.accelerate import accelerate
from kan_fast.ops.plan import plan_for
from kan_fast.reference import activation, bspline_basis

name = "demo"
summary = "train a real classifier with and without kan_fast (needs the demo extra)"

WIDTHS = (64, 64, 10)
GRID_SIZE, SPLINE_ORDER = 5, 3
#: losses of the plain and the accelerated model may drift apart by rounding only
LOSS_TOLERANCE = 1e-2
#: later on, training itself magnifies rounding
COMPARED_STEPS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=20, help="default %(default)s")
    parser.add_argument("--rows", type=int, default=256, help="batch size, default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder of the PNG")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


@dataclass
class Entrant:
    """A model in training, with what the table and the picture need."""

    title: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0

    def step(self, x: Tensor, target: Tensor) -> None:
        start = time.perf_counter()
        loss = F.cross_entropy(self.model(x), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # .item() waits for the device, so the time is the step's
        self.losses.append(loss.item())
        self.seconds.append(time.perf_counter() - start)


def _device() -> str:
    """A GPU where a kernel backend runs on it, else the CPU."""
    if torch.cuda.is_available():
        x = torch.empty(1, 1, device="cuda")
        if plan_for(x, x, SPLINE_ORDER).backend != "reference":
            return "cuda"
    return "cpu"


def _data(seed: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # pixels 0..16 to the grid range
    x = torch.tensor(images, dtype=torch.float32, device=device) / 8 - 1
    y = torch.tensor(labels, device=device)
    train, test = train_test_split(
        range(len(y)), test_size=0.25, random_state=seed, stratify=labels
    )
    return x[train], y[train], x[test], y[test]


def _entrants(seed: int, device: str) -> list[Entrant]:
    torch.manual_seed(seed)
    plain = nn.Sequential(
        *[
            PlainKANLinear(i, o, GRID_SIZE, SPLINE_ORDER)
            for i, o in zip(WIDTHS, WIDTHS[1:], strict=False)
        ]
    ).to(device)
    models = {
        "KAN, plain PyTorch": plain,
        "KAN, accelerated": accelerate(copy.deepcopy(plain), strict=True),
        "MLP, same parameters": mlp(same_parameter_widths(WIDTHS, GRID_SIZE, SPLINE_ORDER)).to(
            device
        ),
    }
    return [Entrant(t, m, torch.optim.Adam(m.parameters(), lr=5e-3)) for t, m in models.items()]


def train(args: argparse.Namespace, device: str) -> list[Entrant]:
    """Trains all entrants on the same batches, one step each in turn."""
    from rich.console import Console
    from rich.progress import Progress

    x, y, x_test, y_test = _data(args.seed, device)
    entrants = _entrants(args.seed, device)
    batches = [
        rows
        for _ in range(args.epochs)
        for rows in torch.randperm(len(y)).split(args.rows)
        if len(rows) == min(args.rows, len(y))
    ]
    # the first step of a process pays for thread pools and page faults: take it on copies
    for entrant in copy.deepcopy(entrants):
        entrant.step(x[: args.rows], y[: args.rows])
    with Progress(console=Console(stderr=True)) as progress:
        for rows in progress.track(batches, description="training three models"):
            for entrant in entrants:
                entrant.step(x[rows], y[rows])
    with torch.no_grad():
        for entrant in entrants:
            right = entrant.model(x_test).argmax(1) == y_test
            entrant.accuracy = right.double().mean().item()
    return entrants


def summarise(entrants: list[Entrant], device: str) -> dict[str, Any]:
    """The figures of the table."""
    plain, fast, reference = entrants

    def over(a: Entrant, b: Entrant) -> float:
        return statistics.median(s / t for s, t in zip(a.seconds, b.seconds, strict=True))

    drift = max(
        abs(a - b) / max(abs(b), 1e-3)
        for a, b in zip(fast.losses[:COMPARED_STEPS], plain.losses[:COMPARED_STEPS], strict=True)
    )
    return {
        "device": device,
        "steps": len(plain.seconds),
        "models": [
            {
                "model": e.title,
                "parameters": sum(p.numel() for p in e.model.parameters()),
                "test_accuracy": e.accuracy,
                "final_loss": e.losses[-1],
                "step_ms": statistics.median(e.seconds) * 1e3,
                "step_over_mlp": over(e, reference),
            }
            for e in entrants
        ],
        "speedup": 1 / over(fast, plain),
        "largest_relative_loss_difference": drift,
        "losses_agree": drift < LOSS_TOLERANCE,
    }


def _print_table(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Handwritten digits, {figures['steps']} steps on {figures['device']}")
    for title in ("model", "weights", "accuracy", "loss", "step", "over MLP"):
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=True)
    for m in figures["models"]:
        table.add_row(
            m["model"],
            f"{m['parameters']:,}",
            f"{m['test_accuracy']:.1%}",
            f"{m['final_loss']:.4f}",
            f"{m['step_ms']:.2f} ms",
            f"{m['step_over_mlp']:.2f}x",
        )
    console = Console()
    console.print(table)
    console.print(
        f"accelerated: {figures['speedup']:.1f} times the speed of plain PyTorch; over the first "
        f"{min(COMPARED_STEPS, figures['steps'])} steps the losses agree within "
        f"{figures['largest_relative_loss_difference']:.1e} of their size"
    )


def _plot(entrants: list[Entrant], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axis = left.subplots()
    styles = ("-", "--", ":")
    for entrant, style in zip(entrants, styles, strict=True):
        at = torch.tensor(entrant.seconds).cumsum(0)
        axis.semilogy(at, entrant.losses, style, label=entrant.title)
    axis.set(xlabel="wall time of the training steps [s]", ylabel="training loss")
    axis.set_title("Same losses, less time")
    axis.legend()

    layer = entrants[1].model[0]
    weight = (layer.spline_weight * layer.spline_scaler.unsqueeze(-1)).detach().cpu()
    base = layer.base_weight.detach().cpu()
    knots = layer.grid.cpu()
    x = torch.linspace(-1, 0.999, 200).unsqueeze(1).expand(-1, layer.in_features)
    splines = bspline_basis(x, knots, layer.spline_order)
    # the twelve edges of the first layer that move most over the grid
    curves = torch.einsum("xig,oig->xoi", splines, weight)
    curves = curves + activation("silu", x).unsqueeze(1) * base
    strongest = curves.std(0).flatten().topk(12).indices
    axes = right.subplots(3, 4, sharex=True)
    for axis, edge in zip(axes.flat, strongest.tolist(), strict=True):
        o, i = divmod(edge, layer.in_features)
        axis.plot(x[:, i], curves[:, o, i])
        axis.set_title(f"pixel {i} to unit {o}", fontsize=8)
        axis.tick_params(labelsize=7)
    right.suptitle("Learned edge functions of the first layer")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run(args: argparse.Namespace) -> int:
    if args.epochs < 1 or args.rows < 1:
        print(
            f"kan-fast demo: --epochs and --rows must be at least 1, got {args.epochs} and "
            f"{args.rows}",
            file=sys.stderr,
        )
        return 2
    device = _device()
    picture = args.out / "kan_fast_demo.png"
    try:
        entrants = train(args, device)
        _plot(entrants, picture)
    except ImportError as error:
        print(
            f"kan-fast demo needs scikit-learn, matplotlib and rich ({error}); "
            'run: pip install "kan-fast[demo]"',
            file=sys.stderr,
        )
        return 2
    figures = summarise(entrants, device)
    figures["picture"] = str(picture)
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        _print_table(figures)
        print(f"picture: {picture}")
    return 0 if figures["losses_agree"] else 1
