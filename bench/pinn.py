"""The PINN case over the tanh MLP with as many parameters.

[2, 8, 8, 8, 1], grid_size 10, 1000 points: u, its gradient, the Laplacian, and the backward of a
loss in the Laplacian.

    python bench/pinn.py [--seconds 2] [--json FILE]
"""

from __future__ import annotations

import functools
import json
import statistics

import options
import peers
import timing
import torch
from torch import nn

import kan_fast
from kan_fast.baselines import kan_parameters, mlp

WIDTHS = (2, 8, 8, 8, 1)
GRID_SIZE = 10


def tanh_mlp(outputs: int = 1) -> nn.Module:
    """Three hidden layers of equal width h: 2 h^2 + (5 + outputs) h + outputs = P."""
    total = kan_parameters((*WIDTHS[:-1], outputs), GRID_SIZE, 3)
    b = 5 + outputs
    h = round((-b + (b * b + 8 * (total - outputs)) ** 0.5) / 4)
    return mlp([2, h, h, h, outputs], nn.Tanh)


def step(model: nn.Module, points: torch.Tensor) -> None:
    """Forward, Laplacian by repeated reverse mode, and gradients of every parameter."""
    for p in model.parameters():
        p.grad = None
    x = points.clone().requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    laplacian = 0
    for i in range(2):
        (second,) = torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)
        laplacian = laplacian + second[:, i]
    (laplacian - 1).square().mean().backward()


def main() -> None:
    parser = options.parser(__doc__, seconds=2.0)
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLP")
    args, info = options.start(parser)
    points = torch.rand(1000, 2) * 1.9 - 0.95
    entrants = {"mlp": tanh_mlp(), "kan_fast": kan_fast.KAN(WIDTHS, GRID_SIZE)}
    if not args.no_peers:
        entrants |= peers.models(WIDTHS, GRID_SIZE)
    runs = {name: functools.partial(step, model, points) for name, model in entrants.items()}
    times = timing.interleaved(runs, args.seconds, "mlp")
    result = {
        "machine": info,
        "rows": [
            {
                "shape": f"1000 {'-'.join(map(str, WIDTHS))} G{GRID_SIZE}, Laplacian",
                "mlp_seconds": statistics.median(times["mlp"]),
                "over_mlp": {
                    n: timing.ratio(t, times["mlp"]) for n, t in times.items() if n != "mlp"
                },
            }
        ],
    }
    print(json.dumps(result, indent=1))
    options.save(args, result)


if __name__ == "__main__":
    main()
