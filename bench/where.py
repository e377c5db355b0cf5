"""Where the time of a training step goes: inside the kernels, outside, and the floor beside it.

    python bench/where.py [--suite cpu|users] [--seconds 0.5] [--threads N] [--json FILE]

The floor of a shape is the share of basis terms that are not zero, (k + 2) / (G + k + 1), of the
time of the three matrix products of linear layers with as many parameters, from the same rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import options
import timing
import torch
from shapes import SUITES, Shape

import kan_fast
import kernels
from kan_fast import machine


class Timed:
    """The extension, with the time spent in it."""

    def __init__(self, extension: Any) -> None:
        self.extension = extension
        self.seconds = 0.0
        self.calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.extension, name)

        def call(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            self.seconds += time.perf_counter() - start
            self.calls += 1
            return result

        return call


def measure(shape: Shape, seconds: float) -> dict:
    torch.manual_seed(0)
    x = shape.inputs().requires_grad_()
    model = kan_fast.KAN(shape.widths, shape.grid_size, shape.spline_order)
    timed = Timed(machine.extension())
    spent: list[tuple[float, int]] = []

    def step() -> None:
        timed.seconds, timed.calls = 0.0, 0
        timing.step(model, x)
        spent.append((timed.seconds, timed.calls))

    runs: dict[str, Callable[[], object]] = {"step": step}
    for n, part in enumerate(shape.layers()):
        layer = kernels.runs(part)
        runs |= {f"{d} {n}": layer[f"{d} gemm"] for d in ("forward", "backward")}
    original = machine.extension
    machine.extension = lambda: timed
    try:
        times = timing.interleaved(runs, seconds, "step")
    finally:
        machine.extension = original
    steps = times.pop("step")
    inside = [s for s, _ in spent[-len(steps) :]]
    floors = [shape.floor * sum(rounds) for rounds in zip(*times.values(), strict=True)]
    median = statistics.median
    return {
        "shape": str(shape),
        "step_seconds": median(steps),
        "kernel_seconds": median(inside),
        "outside_seconds": median(s - t for s, t in zip(steps, inside, strict=True)),
        "native_calls": spent[-1][1],
        "floor_seconds": median(floors),
        "step_over_floor": median(s / f for s, f in zip(steps, floors, strict=True)),
        "kernels_over_floor": median(s / f for s, f in zip(inside, floors, strict=True)),
    }


def main() -> None:
    parser = options.parser(__doc__, seconds=0.5)
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    args, info = options.start(parser)
    rows = []
    for shape in SUITES[args.suite]:
        rows.append(row := measure(shape, args.seconds))
        print(
            f"{row['shape']:28s} step {row['step_seconds'] * 1e3:8.3f} ms  kernels "
            f"{row['kernel_seconds'] * 1e3:8.3f} ms in {row['native_calls']:2d} calls  floor "
            f"{row['floor_seconds'] * 1e3:8.3f} ms  step/floor {row['step_over_floor']:5.2f}  "
            f"kernels/floor {row['kernels_over_floor']:5.2f}",
            flush=True,
        )
    options.save(args, {"machine": info, "rows": rows})


if __name__ == "__main__":
    main()
