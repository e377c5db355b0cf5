"""Training steps of Gaussian and Chebyshev layers over the same-parameter MLP, with their peers.

    python bench/full_suite.py [--seconds 1] [--compiled] [--json FILE]

Eight functions an input and one more parameter an edge (the base branch of the Gaussians, the
constant of the polynomials), as many as a spline with G=5, k=3. fast-kan and ChebyKAN join when
KAN_FAST_FAST_KAN and KAN_FAST_CHEBY_KAN name their source files.
"""

from __future__ import annotations

import statistics

import options
import peers
import timing
import torch

NUM_BASIS = 8
SHAPES = {
    "1024 512-512": (1024, (512, 512)),
    "100 1000-1000-1": (100, (1000, 1000, 1)),
    "1024 1000-1000": (1024, (1000, 1000)),
    "1024 32-64-1": (1024, (32, 64, 1)),
    "256 784-64-10": (256, (784, 64, 10)),
    "4096 128-128": (4096, (128, 128)),
    "1000 2-5-1": (1000, (2, 5, 1)),
}


def main() -> None:
    parser = options.parser(__doc__, seconds=1.0)
    parser.add_argument("--compiled", action="store_true", help="also the peers' torch.compile")
    parser.add_argument("--only", choices=SHAPES, help="one shape")
    parser.add_argument("--family", choices=("gaussian", "chebyshev"))
    args, info = options.start(parser)
    rows = []
    for shape, (count, widths) in options.selected(SHAPES, args.only):
        for family, models in peers.full_models(widths, NUM_BASIS, args.compiled).items():
            if args.family not in (None, family):
                continue
            # the compiler gives up on a class that it has seen too many shapes of
            torch.compiler.reset()
            x = torch.randn(count, widths[0], requires_grad=True)
            steps = {n: lambda m=m, x=x: timing.step(m, x) for n, m in models.items()}
            times = timing.interleaved(steps, args.seconds, "mlp")
            row = {
                "shape": shape,
                "family": family,
                "mlp_seconds": statistics.median(times["mlp"]),
                "over_mlp": {n: timing.ratio(t, times["mlp"]) for n, t in times.items()},
                "over_kan_fast": {n: timing.ratio(t, times["kan_fast"]) for n, t in times.items()},
            }
            rows.append(row)
            cells = "  ".join(
                f"{n} {r['median']:.3g} [{r['low']:.3g} {r['high']:.3g}]"
                for n, r in row["over_mlp"].items()
                if n != "mlp"
            )
            print(f"{shape:16s} {family:10s} mlp {row['mlp_seconds'] * 1e3:8.2f} ms  {cells}")
    options.save(args, {"machine": info, "rows": rows})


if __name__ == "__main__":
    main()
