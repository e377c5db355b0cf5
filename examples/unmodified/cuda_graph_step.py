"""A training step as one CUDA graph: for small networks most of a step is launching kernels.

    python examples/unmodified/cuda_graph_step.py [--eager]
    python -m kan_fast examples/unmodified/cuda_graph_step.py [--eager]

The step is captured once and replayed: new batches are copied to where the graph reads them. Where
there is no GPU, and with --eager, the same steps run one by one. Nothing here knows kan_fast.
"""

import argparse
import time

import torch
from digits_vendored_kan import KANLinear
from torch import nn


def capture(step):
    """`step` as one graph, after a few runs in which memory and kernels get ready."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eager", action="store_true", help="run the steps one by one")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    graphed = torch.cuda.is_available() and not args.eager
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = nn.Sequential(KANLinear(2, 5, 5), KANLinear(5, 1, 5)).to(device)
    # capturable: the optimizer counts its steps on the GPU, too
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, capturable=device == "cuda")
    points = torch.empty(1000, 2, device=device)
    loss = torch.zeros((), device=device)

    def new_batch():
        points.copy_(torch.rand(1000, 2) * 2 - 1)

    def step():
        x, y = points.T
        target = torch.exp(torch.sin(torch.pi * x) + y.square())
        error = (model(points).squeeze(1) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        loss.copy_(error.detach())

    new_batch()
    # what getting ready did to the parameters is taken back
    before = [p.detach().clone() for p in model.parameters()]
    run = capture(step) if graphed else step
    with torch.no_grad():
        for p, start in zip(model.parameters(), before, strict=True):
            p.copy_(start)
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()
    begin = time.perf_counter()
    for _ in range(args.steps):
        new_batch()
        run()
    print(f"final loss {loss.item():.6f}")
    how = "one CUDA graph a step" if graphed else f"step by step on the {device}"
    print(f"training took {time.perf_counter() - begin:.3f} s, {how}")


if __name__ == "__main__":
    main()
