"""What pykan users wait for, with the real pykan plain and accelerated taking turns.

    python bench/pykan_cases.py [--seconds 2] [--only update_grid] [--json FILE]

Figures are pykan's time over the accelerated one: larger is better.
"""

from __future__ import annotations

import contextlib
import copy
import io
import statistics
import tempfile
from collections.abc import Callable

import numpy
import options
import timing
import torch
from kan import KAN, KANLayer
from torch import nn

import kan_fast

Runs = dict[str, Callable[[], object]]


def _pair(widths: list[int]) -> dict[str, nn.Module]:
    """The same model plain and accelerated."""
    plain, fast = (
        # it writes into the list and a checkpoint of itself wherever it is told to
        KAN(list(widths), grid=5, k=3, auto_save=False, ckpt_path=tempfile.mkdtemp())
        for _ in range(2)
    )
    return {"pykan": plain, "accelerated": kan_fast.accelerate(fast, strict=True)}


def _penalised(model: nn.Module) -> Callable[[], None]:
    """A step of `fit(lamb=1e-3)`, without the optimizer."""
    # fit() does so, where no edge is symbolic
    model.symbolic_enabled = False
    x = torch.rand(1000, 4) * 2 - 1
    y = torch.exp(x.square().mean(1, keepdim=True))

    def step() -> None:
        for p in model.parameters():
            p.grad = None
        loss = (model(x) - y).square().mean()
        (loss + 1e-3 * model.get_reg("edge_forward_spline_n", 1.0, 2.0, 0.0, 0.0)).backward()

    return step


def activations() -> Runs:
    """Training step of [4,50,50,1], 1000 rows, with activations and lamb=1e-3."""
    return {name: _penalised(model) for name, model in _pair([4, 50, 50, 1]).items()}


def evaluation() -> Runs:
    """Forward of [4,50,50,1], 1000 rows, as a script calls it: activations on, symbols on."""
    x = torch.rand(1000, 4) * 2 - 1
    pair = _pair([4, 50, 50, 1])
    return {name: lambda model=model: model(x) for name, model in pair.items()}


def update_grid() -> Runs:
    """`update_grid_from_samples` of a 64-64 layer, 10,000 samples."""
    x = torch.randn(10_000, 64) * 0.5
    plain = KANLayer(64, 64)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    return {
        "pykan": lambda: plain.update_grid_from_samples(x),
        "accelerated": lambda: fast.update_grid_from_samples(x),
    }


def _fit(widths: list[int], lamb: float, update: bool) -> Runs:
    x = torch.rand(1000, widths[0]) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:2] ** 2)
    data = {"train_input": x, "train_label": y, "test_input": x, "test_label": y}
    runs: Runs = {}
    for name, model in _pair(widths).items():
        first = copy.deepcopy(model.state_dict())

        def run(model: nn.Module = model, first: dict = first) -> None:
            model.load_state_dict(first)
            torch.manual_seed(0)
            numpy.random.seed(0)
            with contextlib.redirect_stderr(io.StringIO()):
                model.fit(data, opt="LBFGS", steps=10, lamb=lamb, update_grid=update)

        runs[name] = run
    return runs


def fit() -> Runs:
    """`fit(opt="LBFGS", steps=10)` of [2,5,1], 1000 rows: grid updates included."""
    return _fit([2, 5, 1], 0.0, True)


def fit_penalised() -> Runs:
    """`fit(opt="LBFGS", steps=10, lamb=1e-3)` of [2,5,1], 1000 rows."""
    return _fit([2, 5, 1], 1e-3, False)


CASES = {f.__name__: f for f in (activations, evaluation, update_grid, fit, fit_penalised)}


def peak_bytes() -> dict[str, float]:
    """Peak extra bytes of the step of `activations`."""
    return {n: timing.peak_bytes(step) for n, step in activations().items()}


def main() -> None:
    parser = options.parser(__doc__, seconds=2.0)
    parser.add_argument("--only", choices=CASES, help="one case")
    args, info = options.start(parser)
    rows = []
    for name, case in options.selected(CASES, args.only):
        times = timing.interleaved(case(), args.seconds, "pykan")
        row = {
            "case": name,
            "what": case.__doc__,
            "pykan_seconds": statistics.median(times["pykan"]),
            "accelerated_seconds": statistics.median(times["accelerated"]),
            "speedup": timing.ratio(times["pykan"], times["accelerated"]),
        }
        rows.append(row)
        s = row["speedup"]
        print(
            f"{name:14s} pykan {row['pykan_seconds'] * 1e3:9.2f} ms  accelerated "
            f"{row['accelerated_seconds'] * 1e3:8.2f} ms  {s['median']:.3g} times "
            f"[{s['low']:.3g} {s['high']:.3g}]",
            flush=True,
        )
    peak = peak_bytes()
    print(f"peak extra bytes of a penalised step: {peak}")
    options.save(args, {"machine": info, "rows": rows, "peak_bytes": peak})


if __name__ == "__main__":
    main()
