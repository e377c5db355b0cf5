"""Compiles the Triton kernels that later parts will launch, on all cores and without the GPU.

    python -m gpu_suite.warm --facts FILE --logs FOLDER core|ratios|tests|bench...

Triton keeps what it compiles on disk, under a key of the kernel's source, the types, alignments and
constants of a launch, the options and the compiler. So the launches themselves are made, in
processes that see no GPU: a stand-in for Triton's driver names the architecture, and a hook of
Triton's notes what would be compiled and compiles nothing (`collect`). Duplicates are dropped, and
what is left is compiled under the keys of the launches (tests/test_gpu_suite_warm.py holds them
side by side).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_suite import collect, parts, processes, progress

_INDEX = struct.Struct("i")
_COMPILED, _FAILED = b"+", b"-"
#: seconds that the slowest kernels take
_A_KERNEL = 6.0


def _until() -> float:
    return float(os.environ.get(progress.UNTIL, "inf"))


@dataclass(frozen=True)
class Collector:
    """A process that notes launches in a file."""

    name: str
    found: Path
    process: subprocess.Popen


def collect_in_processes(kinds: Sequence[str], facts: Path, logs: Path) -> list[Collector]:
    """Processes that note the launches of each kind, those of the tests shared out."""
    logs.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "KAN_FAST_ALLOW_REFERENCE": "1", "KAN_FAST_SUITE_REHEARSAL": "1",
        collect.FACTS: str(facts),
    }  # fmt: skip
    environment.pop("KAN_FAST_CUDA_EMULATE", None)
    started = []
    for kind in kinds:
        shares = parts.processes() if kind == "tests" else 1
        for n in range(shares):
            found = logs / f"{kind}.{n}.launches"
            found.unlink(missing_ok=True)
            with (logs / f"{kind}.{n}.log").open("wb") as log:
                process = subprocess.Popen(
                    collect.command(kind, n, shares), stdout=log, stderr=log,
                    env={**environment, collect.FILE: str(found)},
                    preexec_fn=processes.die_with_parent,
                )  # fmt: skip
            started.append(Collector(f"{kind} {n}", found, process))
    return started


def noted(collectors: Sequence[Collector]) -> list[str]:
    """What they have noted, without duplicates: what is launched first, first; of what is launched
    at about the same time, products, which take the compiler longest."""
    unique: dict[str, int] = {}
    until = time.time() + max(0.0, _until() - time.time()) / 2  # the rest is for compiling
    for collector in collectors:
        code: int | str
        try:
            left = max(0.0, until - time.time())
            code = collector.process.wait(None if left == float("inf") else left)
        except subprocess.TimeoutExpired:
            collector.process.kill()
            collector.process.wait()
            code = "none: it was too slow"
        lines = collector.found.read_text().splitlines() if collector.found.exists() else []
        print(f"{collector.name}: {len(lines)} launches, exit code {code}", flush=True)
        for n, line in enumerate(lines):
            unique[line] = min(n, unique.get(line, n))
    return sorted(unique, key=lambda line: (unique[line] // 40, '"kernel": "contract' not in line))


def compile_all(jobs: list[str], kernels: dict[str, Any], workers: int) -> tuple[int, int]:
    """How many were compiled, and how many could not be; there may be no time for the rest."""
    queue, feed = os.pipe()  # an index is one read, so no lock can be held by one that dies
    done, report = os.pipe()
    pids = []
    for _ in range(min(workers, len(jobs))):
        pid = os.fork()
        if pid == 0:
            processes.die_with_parent()
            os.close(feed)
            _compile_from(queue, report, jobs, kernels)
        pids.append(pid)
    os.close(report)
    os.close(queue)
    with contextlib.suppress(BrokenPipeError):  # no worker is left
        for index in range(len(jobs)):
            os.write(feed, _INDEX.pack(index))
    os.close(feed)
    with open(done, "rb") as reports:
        found = reports.read()
    for pid in pids:
        os.waitpid(pid, 0)
    return found.count(_COMPILED), found.count(_FAILED)


def _compile_from(queue: int, report: int, jobs: list[str], kernels: dict[str, Any]) -> None:
    """A worker: compiles what it takes from the queue, until that is closed."""
    code = 1
    until = _until() - _A_KERNEL
    try:
        while time.time() < until and len(data := os.read(queue, _INDEX.size)) == _INDEX.size:
            job = jobs[_INDEX.unpack(data)[0]]
            began = time.monotonic()
            try:
                name = collect.compile_line(job, kernels).metadata.name
            except Exception as error:
                print(f"{type(error).__name__}: {error} in {job}", flush=True)
                os.write(report, _FAILED)
            else:
                os.write(report, _COMPILED)
                print(f"{name} {time.monotonic() - began:.1f} s", flush=True)
        code = 0
    finally:
        os._exit(code)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=parts.processes())
    parser.add_argument("--most", type=int, help="compile so many of them")
    parser.add_argument("kinds", nargs="+", choices=collect.KINDS)
    args = parser.parse_args()
    began = time.monotonic()
    os.environ.update({"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0"})
    collectors = collect_in_processes(args.kinds, args.facts, args.logs)
    collect.pretend(json.loads(args.facts.read_text()))
    kernels = collect.kernels()  # imported while the others collect
    jobs = noted(collectors)[: args.most]
    collected = time.monotonic() - began
    compiled, failed = compile_all(jobs, kernels, args.processes)
    print(
        f"{compiled} of {len(jobs)} Triton kernels compiled, {failed} failed; collected in "
        f"{collected:.0f} s, compiled in {time.monotonic() - began - collected:.0f} s"
    )
    return int(failed > 0 or not jobs)


if __name__ == "__main__":
    sys.exit(main())
