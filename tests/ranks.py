"""Two processes of one torch.distributed group."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch


def _rank(rank: int, port: int, work: Callable[[int], Any], results) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    results.put((rank, work(rank)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def on_two_ranks(work: Callable[[int], Any]) -> list[Any]:
    """`work(rank)` of both ranks, over gloo; results are sent as they are, so no tensors."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_rank, args=(r, port, work, results)) for r in (0, 1)]
    for w in workers:
        w.start()
    found = dict(results.get(timeout=180) for _ in workers)
    for w in workers:
        w.join(60)
        assert w.exitcode == 0
    return [found[0], found[1]]
