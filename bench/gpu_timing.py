"""How a step is timed on a GPU: events around each run, entrants in turns.

In a rehearsal, on a machine without a GPU, the same functions run on the CPU and measure nothing.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine_info
import torch
from torch.profiler import ProfilerActivity, profile

Run = Callable[[], None]
DEVICE = "cpu" if machine_info.REHEARSAL else "cuda"


def synchronize() -> None:
    """Waits for the GPU."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def forget() -> None:
    """Gives back the memory of what has been measured, and what torch.compile has compiled: its
    recompile limit counts all shapes of a process, and runs plain operators beyond."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def graphed(run: Run) -> Run:
    """The run as one CUDA graph; what it allocates and launches is recorded once."""
    if DEVICE == "cpu":
        return run
    here = torch.cuda.current_stream()
    stream = torch.cuda.Stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    here.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    finally:
        torch.cuda.set_stream(here)  # a capture that fails leaves its own
    return graph.replay


def _seconds(run: Run, repeats: int) -> float:
    if DEVICE == "cpu":
        began = time.perf_counter()
        for _ in range(repeats):
            run()
        return (time.perf_counter() - began) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def interleaved(entrants: dict[str, Run], seconds: float) -> dict[str, list[float]]:
    """Seconds a run of each entrant; entry n of every list is from round n.

    A round runs each entrant often enough to take a few milliseconds, so that an event's own
    microseconds do not count.
    """
    if DEVICE == "cpu":
        # figures of the usual form, which mean nothing
        return {name: [_seconds(run, 1)] * 2 for name, run in entrants.items()}
    repeats = {}
    for name, run in entrants.items():
        for _ in range(3):
            run()
        repeats[name] = max(1, round(3e-3 / max(_seconds(run, 3), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in entrants}
    spent = 0.0
    while spent < seconds * len(entrants) or len(next(iter(times.values()))) < 7:
        for name, run in entrants.items():
            taken = _seconds(run, repeats[name])
            times[name].append(taken)
            spent += taken * repeats[name]
    return times


def peak_bytes(run: Run) -> int:
    """The most memory that is allocated during a run, over what is allocated before it."""
    if DEVICE == "cpu":
        return 0
    run()
    synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _profiled(run: Run) -> profile:
    run()
    synchronize()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE == "cuda")
    with profile(activities=activities) as record:
        run()
        synchronize()
    return record


def launches(run: Run) -> dict[str, int]:
    """How often each kernel is launched in a run, by the profiler."""
    record = _profiled(run)
    found: dict[str, int] = {}
    for event in record.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and "Mem" not in event.name:
            found[event.name] = found.get(event.name, 0) + 1
    return found


def kernels(run: Run) -> list[dict]:
    """Every kernel of a run, by the profiler: its time and what limits how many blocks run."""
    record = _profiled(run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return [
        {
            "name": event["name"],
            "microseconds": event["dur"],
            "blocks": math.prod(event["args"].get("grid", [])),
            "registers": event["args"].get("registers per thread"),
            "shared_bytes": event["args"].get("shared memory"),
            "occupancy": event["args"].get("est. achieved occupancy %"),
        }
        for event in events
        if event.get("cat") == "kernel"
    ]


def copy_rate(size: int = 1 << (28 if DEVICE == "cuda" else 16)) -> float:
    """Bytes per second of a large copy, read and written: what the memory gives here."""
    a, b = (torch.empty(size, device=DEVICE) for _ in range(2))
    times = interleaved({"copy": lambda: a.copy_(b)}, 0.3)["copy"]
    return 2 * 4 * size / statistics.median(times)


def gemm_rate(dtype: torch.dtype, size: int = 8192 if DEVICE == "cuda" else 64) -> float:
    """FLOP/s of a large product in the precision that is set: what the tensor cores give here."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    times = interleaved({"gemm": lambda: torch.mm(a, b)}, 0.3)["gemm"]
    return 2 * size**3 / statistics.median(times)
