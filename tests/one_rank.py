"""DDP and FSDP2 over one process against the plain model: prints "same" or fails.

A program, run by the tests in a process of its own: a group that hangs or is left behind then costs
one test.

    python tests/one_rank.py FOLDER
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

import kan_fast

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
LEARNING_RATE = 0.1


def trained(model: nn.Module, batches: list[torch.Tensor]) -> nn.Module:
    """After a step of SGD on each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model


def numbers(model: nn.Module) -> list[torch.Tensor]:
    """Whole parameters, wherever their parts are."""
    return [
        (p.full_tensor() if hasattr(p, "full_tensor") else p).detach() for p in model.parameters()
    ]


def sharded(model: nn.Module) -> nn.Module:
    """Every layer a unit of FSDP2, and the rest one."""
    for layer in model.layers:
        fully_shard(layer)
    return fully_shard(model)


def main(folder: Path) -> None:
    """Trains a network plainly, by DDP in two forms, and by FSDP2."""
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "nccl" if DEVICE.type == "cuda" else "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=0,
        world_size=1,
        device_id=DEVICE if DEVICE.type == "cuda" else None,
    )
    try:
        torch.manual_seed(0)
        model = kan_fast.KAN([3, 7, 2]).to(DEVICE)
        batches = [torch.rand(40, 3).to(DEVICE) for _ in range(3)]
        expected = numbers(trained(copy.deepcopy(model), batches))
        ddp = nn.parallel.DistributedDataParallel
        where = [0] if DEVICE.type == "cuda" else None
        entrants = {
            "DDP": ddp(copy.deepcopy(model), device_ids=where),
            "DDP, static graph": ddp(
                copy.deepcopy(model), device_ids=where, static_graph=True,
                gradient_as_bucket_view=True,
            ),
            "FSDP2": sharded(copy.deepcopy(model)),
        }  # fmt: skip
        while entrants:
            name, entrant = entrants.popitem()
            for found, wanted in zip(numbers(trained(entrant, batches)), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)
            del entrant  # before its group ends
    finally:
        distributed.destroy_process_group()
    print("same")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
