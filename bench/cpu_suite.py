"""Training steps and inference of kan_fast and its peers over the same-parameter MLP.

    python bench/cpu_suite.py [--suite cpu|users] [--measure step|forward] [--seconds 1]
        [--threads N] [--only 128-128] [--no-peers] [--compiled] [--json FILE]

Entrants of a shape take turns, one step each, until they have run for `--seconds` on average; the
ratio is the median of the per-round ratios. `peers.py` says which public packages join.
"""

from __future__ import annotations

import argparse
import functools
import statistics

import options
import peers
import timing
import torch
from shapes import SUITES, Shape

from kan_fast.baselines import same_parameter_widths


def accuracy(model: torch.nn.Module, x: torch.Tensor) -> float:
    """Largest error of the outputs against the oracle in float64, over the largest output."""
    widths = [layer.in_features for layer in model.layers] + [model.layers[-1].out_features]
    wide = peers.stack(
        peers.Oracle, widths, grid_size=model.grid_size, spline_order=model.spline_order
    ).double()
    for ours, theirs in zip(model.layers, wide, strict=True):
        theirs.load_state_dict(ours.state_dict())
    few = x[:256].detach()
    with torch.no_grad():
        truth, found = wide(few.double()), model(few)
    return float((found - truth).abs().max() / truth.abs().max())


def run(shape: Shape, args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    x = shape.inputs().requires_grad_()
    layout = (shape.widths, shape.grid_size, shape.spline_order)
    entrants = peers.ours(*layout)
    if not args.no_peers:
        entrants |= peers.models(*layout, compiled=args.compiled)
    measure = timing.step if args.measure == "step" else timing.forward
    runs = {name: functools.partial(measure, model, x) for name, model in entrants.items()}
    for name in list(runs):
        try:
            runs[name]()
        except Exception as error:  # a peer's own trouble
            print(f"{name} is left out of {shape}: {type(error).__name__}: {error}")
            del runs[name]
    times = timing.interleaved(runs, args.seconds, "mlp")
    base = times["mlp"]
    row = {
        "shape": str(shape),
        "mlp_widths": same_parameter_widths(*layout),
        "rounds": len(base),
        "mlp_seconds": statistics.median(base),
        "kan_fast_seconds": statistics.median(times["kan_fast"]),
        "over_mlp": {n: timing.ratio(t, base) for n, t in times.items() if n != "mlp"},
        "error_over_largest_output": accuracy(entrants["kan_fast"], x),
    }
    if args.footprint:
        row["footprint"] = {
            n: timing.footprint(entrants[n], x) for n in runs if "compiled" not in n
        }
    return row


def main() -> None:
    parser = options.parser(__doc__, seconds=1.0)
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    parser.add_argument("--measure", choices=("step", "forward"), default="step")
    parser.add_argument("--only", help="shapes that contain this text")
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLP")
    parser.add_argument("--compiled", action="store_true", help="peers under torch.compile as well")
    parser.add_argument("--footprint", action="store_true", help="memory and operators as well")
    args, info = options.start(parser)
    rows = []
    for shape in SUITES[args.suite]:
        if args.only and args.only not in str(shape):
            continue
        row = run(shape, args)
        rows.append(row)
        cells = "  ".join(
            f"{name} {r['median']:.2f} [{r['low']:.2f} {r['high']:.2f}]"
            for name, r in row["over_mlp"].items()
        )
        print(f"{row['shape']:34s} mlp {row['mlp_seconds'] * 1e3:8.3f} ms  {cells}", flush=True)
    ours = [row["over_mlp"]["kan_fast"]["median"] for row in rows]
    print(f"geometric mean of kan_fast over the MLP: {statistics.geometric_mean(ours):.2f}")
    options.save(args, {"machine": info, "measure": args.measure, "rows": rows})


if __name__ == "__main__":
    main()
