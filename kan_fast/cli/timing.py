"""How a step is timed: entrants in turns, ratios by round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from kan_fast import envs

envs.quiet_profiler()

#: shorter runs depend on what is in the caches when they start
SHORT_SECONDS = 0.01


def step(model: torch.nn.Module, x: torch.Tensor) -> None:
    """A training step without the optimizer: gradients of the input and of every parameter."""
    for p in model.parameters():
        p.grad = None
    x.grad = None
    y = model(x)
    y.backward(torch.ones_like(y))


def forward(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Inference."""
    with torch.inference_mode():
        model(x)


def interleaved(
    entrants: dict[str, Callable[[], None]], seconds: float, base: str
) -> dict[str, list[float]]:
    """Seconds of each run of each entrant; entry n of every list is from round n.

    Every round has its own order: whoever always came after the largest would always find its
    caches cold. A short run is made twice, and the second one counts: in a training loop it comes
    after itself, not after fifteen others.
    """
    order = list(entrants.items())
    shuffle = random.Random(0).shuffle
    short = set()
    for name, run in order:
        for _ in range(3):
            start = time.perf_counter()
            run()
        if time.perf_counter() - start < SHORT_SECONDS:
            short.add(name)
    times: dict[str, list[float]] = {name: [] for name in entrants}
    # at least this many rounds, however slow an entrant is
    fewest = 11
    while len(times[base]) < fewest or sum(map(sum, times.values())) < seconds * len(times):
        shuffle(order)
        for name, run in order:
            if name in short:
                run()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times: list[float], base: list[float]) -> dict[str, float]:
    """Median of per-round ratios, and the quartiles as spread."""
    ratios = [t / b for t, b in zip(times, base, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"median": median, "low": low, "high": high}


def spread(ratio: dict[str, float]) -> str:
    """A `ratio` to read: median (quartiles)."""
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def peak_bytes(run: Callable[[], object]) -> int:
    """The most that a run has allocated at a time, beside what was there."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    now = peak = 0
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
