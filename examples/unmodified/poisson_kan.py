"""A physics-informed KAN for a Poisson equation, second derivatives and all.

    python examples/unmodified/poisson_kan.py
    python -m kan_fast examples/unmodified/poisson_kan.py

It solves u_xx + u_yy = f on a square with u = 0 at its edge, where u = sin(pi x) sin(pi y).
Nothing here knows kan_fast; the second command runs the same lines with the layers accelerated.
"""

import math
import time

import torch
from digits_vendored_kan import KANLinear
from torch import nn


def laplacian(model, points):
    points = points.requires_grad_()
    u = model(points)
    (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    total = 0
    for axis in range(2):
        (second,) = torch.autograd.grad(slope[:, axis].sum(), points, create_graph=True)
        total = total + second[:, axis]
    return total


def main():
    torch.manual_seed(0)
    model = nn.Sequential(KANLinear(2, 8, 10), KANLinear(8, 8, 10), KANLinear(8, 1, 10))
    inside = torch.rand(800, 2) * 1.9 - 0.95
    source = -2 * math.pi**2 * torch.sin(math.pi * inside).prod(1)
    edge = torch.rand(200, 2) * 2 - 1
    edge[torch.arange(200), torch.randint(2, (200,))] = torch.randint(2, (200,)) * 1.998 - 0.999
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = time.perf_counter()
    for _ in range(60):
        residual = (laplacian(model, inside) - source).square().mean()
        loss = residual + 100 * model(edge).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"final loss {loss.item():.6f}")
    print(f"training took {time.perf_counter() - start:.3f} s")


if __name__ == "__main__":
    main()
