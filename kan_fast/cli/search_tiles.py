"""The search for the fastest tile of a layer on this GPU; `kan-fast tune` runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kan_fast.backends import BACKENDS
from kan_fast.backends.layer import Layer
from kan_fast.backends.triton import tiles, tuned
from kan_fast.layers.grid import uniform_knots
from kan_fast.spec import WindowedBasis

_log = logging.getLogger("kan_fast")

#: milliseconds that a call takes
Timer = Callable[[Callable[[], Any]], float]


@dataclass(frozen=True)
class Trial:
    """A layer to find tiles for.

    Args:
        dtype: of the layer; products follow `torch.get_float32_matmul_precision()`.
    """

    rows: int
    in_features: int
    out_features: int
    grid_size: int = 5
    spline_order: int = 3
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Finding:
    """The best tile of a kind of kernel, and how long it takes; the rule's choice beside it."""

    trial: Trial
    kind: str
    tile: dict[str, int]
    milliseconds: float
    rule_milliseconds: float


def _calls(trial: Trial, device: torch.device) -> tuple[tiles.Shape, dict[str, Callable[[], Any]]]:
    """A call of each kind of kernel on random numbers."""

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=trial.dtype, device=device)

    edges = (trial.out_features, trial.in_features)
    num_basis = trial.grid_size + trial.spline_order
    knots = uniform_knots(
        trial.in_features, trial.grid_size, trial.spline_order, (-1, 1), device, torch.float32
    ).to(trial.dtype)
    x = (torch.rand((trial.rows, trial.in_features), device=device) * 1.9 - 0.95).to(trial.dtype)
    u = random(trial.rows, trial.out_features)
    weight, scaler, base = random(*edges, num_basis), random(*edges), random(*edges)
    layer = Layer(knots, weight, scaler, base, WindowedBasis(trial.spline_order))
    kernels = BACKENDS["triton"].kernels(weight)
    need = (True, True, True, True)
    return kernels.shape_of(x, layer), {
        "out": lambda: kernels.out(x, None, layer, 0),
        "in_weight": lambda: kernels.in_weight(x, u, None, layer, 1, 0, need),
    }


def search(
    trials: Iterable[Trial], device: torch.device, timer: Timer | None = None
) -> Iterator[Finding]:
    """Times every shipped tile on every trial, and keeps the fastest; yields as it goes.

    Args:
        timer: of a call on the device; Triton's `do_bench` where None.
    """
    if timer is None:
        from triton.testing import do_bench

        def timer(call: Callable[[], Any]) -> float:
            return do_bench(call, return_mode="median")

    for trial in trials:
        shape, calls = _calls(trial, device)
        for kind, call in calls.items():
            if tiles.gathers(shape) and kind == "out":
                continue  # one tile for all
            rule = timer(call)
            best, time = tiles.by_rule(kind, shape), rule
            for tile in tiles.candidates(kind, shape):
                try:
                    with tuned.using(kind, tile):
                        taken = timer(call)
                except Exception as error:  # more shared memory than there is, for one
                    _log.info("kan_fast: %s does not run here: %s", tile, error)
                    continue
                if taken < time:
                    best, time = tile, taken
            tuned.store(kind, shape, tiles.as_json(best))
            yield Finding(trial, kind, tiles.as_json(best), time, rule)
