"""What the examples share: options, training with a progress bar, where plots go."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

from kan_fast import envs


def start(description: str, **defaults: object) -> argparse.Namespace:
    """The command line of an example.

    Args:
        description: the example's docstring.
        defaults: further options by name, with their defaults.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--plain", action="store_true", help="the same layers in plain PyTorch")
    parser.add_argument("--out", type=Path, default=Path("example_output"), help="folder of plots")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    if args.plain:
        envs.BACKEND = "reference"
    torch.manual_seed(args.seed)
    return args


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def lbfgs(title: str, model: nn.Module, loss: Callable[[], Tensor], steps: int) -> float:
    """Trains by LBFGS with line search; the seconds it took."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-14, tolerance_change=1e-14,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    begin = time.perf_counter()
    with Progress(transient=True) as progress:
        for _ in progress.track(range(steps), description=title):
            optimizer.step(closure)
    return time.perf_counter() - begin


def adam(
    title: str, model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 1e-2
) -> float:
    """Trains by Adam with a rate that falls to zero; `loss` draws its own batch. Seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    begin = time.perf_counter()
    with Progress(transient=True) as progress:
        for _ in progress.track(range(steps), description=title):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - begin


def figure(columns: int = 1, height: float = 3.6):
    """A figure of so many axes side by side, drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(
        1, columns, figsize=(4.6 * columns, height), layout="constrained", squeeze=False
    )


def save(drawn, args: argparse.Namespace, name: str) -> None:
    """Writes a figure to the folder of plots and says where it is."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{name}.png"
    drawn.savefig(path, dpi=130)
    print(f"plot: {path}")
