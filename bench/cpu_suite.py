"""Training step of kan_fast and its peers over the same-parameter MLP, on the CPU suite.

    python bench/cpu_suite.py [--seconds 1] [--threads N] [--only 128-128] [--json FILE]

Entrants of a shape take turns, one step each, until they have run for `--seconds` on average; the
ratio is the median of the per-round ratios. Peers join when they can be found: efficient-kan when
KAN_FAST_EFFICIENT_KAN names its source file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import machine_info
import peers
import torch

import kan_fast
from kan_fast.baselines import mlp, same_parameter_widths


@dataclass(frozen=True)
class Shape:
    rows: int
    widths: tuple[int, ...]
    grid_size: int

    def __str__(self) -> str:
        return f"{self.rows} {'-'.join(map(str, self.widths))} G{self.grid_size}"


SUITE = (
    Shape(1000, (2, 5, 1), 5),
    Shape(2601, (2, 10, 1), 5),
    Shape(1024, (32, 64, 1), 5),
    Shape(256, (784, 64, 10), 5),
    Shape(4096, (128, 128), 5),
    Shape(1024, (512, 512), 5),
    Shape(1024, (64, 64), 20),
    Shape(4096, (32, 32), 100),
    Shape(100, (1000, 1000, 1), 5),
    Shape(5888, (64, 64, 64, 64, 64), 8),
    Shape(2048, (160, 160, 160, 160), 5),
    Shape(65536, (32, 8, 8), 3),
)


def step(model: torch.nn.Module, x: torch.Tensor) -> None:
    """A training step without the optimizer: gradients of the input and of every parameter."""
    for p in model.parameters():
        p.grad = None
    x.grad = None
    y = model(x)
    y.backward(torch.ones_like(y))


def interleaved(entrants: dict[str, object], x: torch.Tensor, seconds: float) -> dict[str, list]:
    """Seconds of each step of each entrant; entry n of every list is from round n."""
    for model in entrants.values():
        for _ in range(3):
            step(model, x)
    times: dict[str, list[float]] = {name: [] for name in entrants}
    # at least this many rounds, however slow an entrant is
    fewest = 11
    while len(times["mlp"]) < fewest or sum(map(sum, times.values())) < seconds * len(times):
        for name, model in entrants.items():
            start = time.perf_counter()
            step(model, x)
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times: list[float], base: list[float]) -> dict[str, float]:
    """Median of per-round ratios, and the quartiles as spread."""
    ratios = [t / b for t, b in zip(times, base, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"median": median, "low": low, "high": high}


def run(shape: Shape, seconds: float, with_peers: bool) -> dict:
    torch.manual_seed(0)
    # 0.95 of the grid range
    x = ((torch.rand(shape.rows, shape.widths[0]) * 2 - 1) * 0.95).requires_grad_()
    widths = same_parameter_widths(shape.widths, shape.grid_size, 3)
    entrants = {"mlp": mlp(widths), "kan_fast": kan_fast.KAN(shape.widths, shape.grid_size)}
    if with_peers:
        entrants |= peers.models(shape.widths, shape.grid_size)
    times = interleaved(entrants, x, seconds)
    base = times["mlp"]
    return {
        "shape": str(shape),
        "mlp_widths": widths,
        "rounds": len(base),
        "mlp_seconds": statistics.median(base),
        "kan_fast_seconds": statistics.median(times["kan_fast"]),
        "over_mlp": {n: ratio(t, base) for n, t in times.items() if n != "mlp"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="per entrant and shape, on average"
    )
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--only", help="shapes that contain this text")
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLP")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    info = machine_info.collect()
    print(json.dumps(info))
    rows = []
    for shape in SUITE:
        if args.only and args.only not in str(shape):
            continue
        row = run(shape, args.seconds, not args.no_peers)
        rows.append(row)
        cells = "  ".join(
            f"{name} {r['median']:.2f} [{r['low']:.2f} {r['high']:.2f}]"
            for name, r in row["over_mlp"].items()
        )
        print(f"{row['shape']:34s} mlp {row['mlp_seconds'] * 1e3:8.3f} ms  {cells}", flush=True)
    ours = [row["over_mlp"]["kan_fast"]["median"] for row in rows]
    print(f"geometric mean of kan_fast over the MLP: {statistics.geometric_mean(ours):.2f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": info, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
