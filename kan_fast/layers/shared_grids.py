"""Grid updates on which all processes of a group agree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_group: ContextVar[dist.ProcessGroup | None] = ContextVar("kan_fast_grid_group", default=None)


@contextlib.contextmanager
def shared_grids(group: dist.ProcessGroup | None = None) -> Iterator[None]:
    """Inside, grid updates see the samples of all processes, and so come out the same on each.

        with kan_fast.shared_grids():
            model.update_grid(x)  # every rank on its own share of the data

    Without, the ranks of a data-parallel model move their grids apart, and gradients that are
    averaged belong to different functions. Holds for `KANLinear`, `KAN` and accelerated pykan
    models; every process of the group must take part with as many updates.

    Args:
        group: of `torch.distributed`; the default one where None.

    Raises:
        RuntimeError: torch.distributed is not initialised.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "shared_grids: torch.distributed must be initialised; call init_process_group first, "
            "or update grids without it in a single process"
        )
    token = _group.set(group or dist.group.WORLD)
    try:
        yield
    finally:
        _group.reset(token)


def of_all_processes(x: Tensor) -> Tensor:
    """The rows of all processes where `shared_grids` is on, in the order of ranks; else `x`."""
    group = _group.get()
    if group is None:
        return x
    ranks = dist.get_world_size(group)
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(ranks)]
    dist.all_gather(counts, counts[0].new_tensor([x.shape[0]]), group=group)
    most = max(int(n) for n in counts)
    # ranks may have different numbers of rows; a gather takes equal shares
    padded = torch.cat([x, x.new_zeros(most - x.shape[0], *x.shape[1:])]).contiguous()
    shares = [torch.empty_like(padded) for _ in range(ranks)]
    dist.all_gather(shares, padded, group=group)
    return torch.cat([share[: int(n)] for share, n in zip(shares, counts, strict=True)])


def agree(*results: Tensor) -> None:
    """Gives all processes the first one's results where `shared_grids` is on.

    The same rows do not make the same sums: a linear algebra library may choose its code by where
    memory happens to lie.
    """
    group = _group.get()
    if group is None:
        return
    for result in results:
        first = result.detach().contiguous()
        dist.broadcast(first, dist.get_global_rank(group, 0), group=group)
        result.detach().copy_(first)
