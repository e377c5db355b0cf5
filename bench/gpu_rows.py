"""Rows of a GPU bench, each of which may fail by itself.

Every row is saved as soon as it is there. Under `bench/gpu_suite` a row that ends the process is
skipped by the next process, and no row is begun that would probably not be finished in time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Mapping

import gpu_timing
import options
import torch
from gpu_suite.progress import UNTIL, Progress, context_is_lost


def run(args: argparse.Namespace, result: dict, rows: Mapping[str, Callable[[], None]]) -> int:
    """Makes the rows, each of which adds itself to `result`; the number that failed."""
    progress = Progress()
    until, slowest = float(os.environ.get(UNTIL, "inf")), 0.0
    for name in progress.remaining(rows):
        if time.time() + slowest > until:
            progress.end(name, "SKIP", "no time is left")
            continue
        began = time.time()
        with progress.unit(name):
            try:
                gpu_timing.forget()
                torch.manual_seed(0)
                rows[name]()
            except Exception as error:
                print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
                result.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
                raise
            finally:
                options.save(args, result)
        slowest = max(slowest, time.time() - began)
    return sum(line.verdict == "FAIL" for line in progress.done.values())


def resumed(args: argparse.Namespace) -> dict | None:
    """What the process before this one has saved, where a supervisor has started this one anew."""
    return options.saved(args) if Progress().done else None


@contextlib.contextmanager
def alone(failed: dict[str, str], name: str):
    """Keeps the error of one entrant of a row to itself, as long as the GPU answers."""
    try:
        yield
    except Exception as error:  # a finding, whatever it is: out of memory, a compiler's trouble
        if context_is_lost():
            raise
        failed[name] = f"{type(error).__name__}: {error}".strip().split("\n")[0]
        print(f"{name} is left out: {failed[name]}", flush=True)
