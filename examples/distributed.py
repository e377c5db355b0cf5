"""Data-parallel training by torchrun: gloo on CPUs, NCCL where every process has a GPU.

    torchrun --nproc-per-node 2 examples/distributed.py [--plain] [--quick]

Every process has its share of the rows. Gradients are averaged by DistributedDataParallel, and a
grid update inside `kan_fast.shared_grids()` sees the rows of all, so that all have the same grid.
"""

from __future__ import annotations

import argparse
import gc
import os

import common
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import kan_fast


def train(model: kan_fast.KAN, args: argparse.Namespace, steps: int) -> list[float]:
    """The mean squared error over all rows, step by step."""
    rank, world = dist.get_rank(), dist.get_world_size()
    device = model.layers[0].grid.device
    parallel = DistributedDataParallel(model)
    torch.manual_seed(args.seed + 1 + rank)
    x = torch.rand(2000 // world, 2, device=device) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2)
    optimizer = torch.optim.Adam(parallel.parameters(), lr=2e-2)
    curve = []
    for step in range(steps):
        if step == steps // 4:
            with kan_fast.shared_grids(), torch.no_grad():
                model(x, update_grid=True)
        optimizer.zero_grad()
        loss = (parallel(x)[:, 0] - y).square().mean()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        curve.append(total.item() / world)
    return curve


def main() -> None:
    args = common.start(__doc__)
    local = int(os.environ.get("LOCAL_RANK", 0))
    on_gpu = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()

    model = kan_fast.KAN([2, 5, 1], grid_size=5).to(device)  # one seed: the same everywhere
    steps = 20 if args.quick else 500
    curve = train(model, args, steps)

    # every process must have ended with the same numbers
    for tensor in model.state_dict().values():
        first = tensor.clone()
        dist.broadcast(first, 0)
        assert torch.equal(first, tensor), "the processes have drifted apart"
    if rank == 0:
        print(f"{world} processes on {device.type}: loss {curve[0]:.4f} to {curve[-1]:.2e}")
        figure, axes = common.figure()
        axes[0, 0].semilogy(curve)
        axes[0, 0].axvline(steps // 4, color="k", linestyle=":", label="grid update")
        axes[0, 0].set(xlabel="step", ylabel="mean squared error over all rows")
        axes[0, 0].legend()
        common.save(figure, args, "distributed")
    # nobody leaves while another still talks, and DDP, which is part of a cycle, lets go of the
    # group before it ends
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
