"""What training steps do not show: recurrences, inference of one row, grid updates, refinement.

    python bench/cases.py [--seconds 1] [--only rnn] [--json FILE]

Entrants take turns as in `cpu_suite.py`; figures are over the first entrant of a case.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

import options
import peers
import timing
import torch
from torch import Tensor, nn

import kan_fast
from kan_fast import reference
from kan_fast.baselines import mlp

Runs = dict[str, Callable[[], object]]


def rnn() -> Runs:
    """A recurrent cell of width 64: 200 sequential calls on 64 rows, and their backward."""

    def run(cell: nn.Module) -> Callable[[], None]:
        first = torch.rand(64, 64) - 0.5

        def step() -> None:
            for p in cell.parameters():
                p.grad = None
            h = first
            for _ in range(200):
                h = torch.tanh(cell(h))
            h.sum().backward()

        return step

    models = peers.ours((64, 64), 5) | peers.models((64, 64), 5)
    return {name: run(model) for name, model in models.items() if name != "pykan"}


def _infer(x: Tensor, models: dict[str, nn.Module]) -> Runs:
    def run(model: nn.Module) -> Callable[[], None]:
        model.eval()
        return lambda: timing.forward(model, x)

    return {name: run(model) for name, model in models.items()}


def one_row() -> Runs:
    """Inference of one row of 784-64-10 over the equal-width MLP."""
    widths = (784, 64, 10)
    models = {"equal-width mlp": mlp(widths), **peers.ours(widths, 5)}
    return _infer(torch.rand(1, 784) - 0.5, models)


def one_row_cold() -> Runs:
    """The same with every peer taking its turn, so that nothing is left in the caches."""
    models = {"equal-width mlp": mlp((784, 64, 10)), **peers.ours((784, 64, 10), 5)}
    models |= {n: m for n, m in peers.models((784, 64, 10), 5).items() if n not in models}
    return _infer(torch.rand(1, 784) - 0.5, models)


def _lstsq(x: Tensor, old: Tensor, new: Tensor, weight: Tensor) -> Tensor:
    """What public layers do: least squares on `[in, rows, basis]`, one right side an output."""
    a = reference.bspline_basis(x, new, 3).transpose(0, 1)
    y = torch.einsum("rig,oig->iro", reference.bspline_basis(x, old, 3), weight)
    return torch.linalg.lstsq(a, y).solution.permute(2, 0, 1)


def update_grid() -> Runs:
    """`update_grid` on 10,000 samples of a 64-64 layer over efficient-kan's (or plain lstsq)."""
    x = torch.randn(10_000, 64) * 0.5
    ours = kan_fast.KANLinear(64, 64)
    runs: Runs = {}
    if layer := peers.efficient_kan_layer():
        theirs = layer(64, 64)
        runs["efficient-kan"] = lambda: theirs.update_grid(x)
    old, weight = ours.grid.clone(), ours.spline_weight.detach().clone()
    runs["plain lstsq"] = lambda: _lstsq(x, old, old * 1.1, weight)
    runs["kan_fast"] = lambda: ours.update_grid(x)
    runs["kan_fast, robust"] = lambda: ours.update_grid(x, robust=True)
    return runs


def refine() -> Runs:
    """From 5 to 20 intervals of a 64-64 layer over plain lstsq on 10,000 samples."""
    x = torch.rand(10_000, 64) * 1.9 - 0.95
    layer = kan_fast.KANLinear(64, 64)
    finer = kan_fast.KANLinear(64, 64, 20)
    return {
        "plain lstsq": lambda: _lstsq(x, layer.grid, finer.grid, layer.spline_weight.detach()),
        "kan_fast": lambda: copy.deepcopy(layer).refine(20),
    }


CASES = {
    "rnn": rnn,
    "one row": one_row,
    "one row, cold": one_row_cold,
    "update_grid": update_grid,
    "refine": refine,
}


def main() -> None:
    parser = options.parser(__doc__, seconds=1.0)
    parser.add_argument("--only", choices=CASES, help="one case")
    args, info = options.start(parser)
    rows = []
    for name, case in options.selected(CASES, args.only):
        entrants = case()
        base, *others = entrants
        times = timing.interleaved(entrants, args.seconds, base)
        row = {
            "case": name,
            "what": case.__doc__,
            "base": base,
            "base_seconds": statistics.median(times[base]),
            "over_base": {n: timing.ratio(times[n], times[base]) for n in others},
        }
        rows.append(row)
        cells = "  ".join(
            f"{n} {r['median']:.3g} [{r['low']:.3g} {r['high']:.3g}]"
            for n, r in row["over_base"].items()
        )
        print(f"{name:12s} {base} {row['base_seconds'] * 1e3:9.3f} ms  {cells}", flush=True)
    options.save(args, {"machine": info, "rows": rows})


if __name__ == "__main__":
    main()
