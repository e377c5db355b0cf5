"""What the suite runs, as data: the most valuable first, each with the seconds it may take."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

#: the limits of either form and what is left for ending, archiving and the table
WHOLE, QUICK = 560.0, 170.0
#: seconds between TERM and KILL, within a part's limit
GRACE = 4.0

#: what a machine without a GPU needs to run the same parts; KAN_FAST_CUDA_EMULATE beside it has the
#: CUDA kernels run, too
REHEARSAL = {
    "TRITON_INTERPRET": "1",
    "KAN_FAST_SUITE_REHEARSAL": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True)
class Part:
    """One process of the suite.

    Args:
        name: in the verdicts, and of the log.
        command: "{python}", "{out}", "{work}" and the like are filled in by the runner.
        limit: seconds.
        after: parts that must have passed, where they are run at all.
        unless: parts that must not have failed; one that was too slow to tell has not.
        programs: that must be installed.
        environment: beside the driver's own.
    """

    name: str
    command: tuple[str, ...]
    limit: float
    after: tuple[str, ...] = ()
    unless: tuple[str, ...] = ("facts",)
    programs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def processes() -> int:
    """How many at a time: all cores but two, which the drivers of GPU and suite need."""
    return max(1, len(os.sched_getaffinity(0)) - 2)


def _supervised(
    name: str, shares: int, each: float, tell: str, final: str, *command: str
) -> tuple[str, ...]:
    progress = "{out}/tests.txt" if name == "tests" else "{work}/logs/" + name + ".units"
    return (
        "{python}", "-m", "gpu_suite.supervise", "--progress", progress, "--logs",
        "{work}/logs/" + name, "--shares", str(shares), "--each", str(each), "--tell=" + tell,
        "--final", final, "--", *command,
    )  # fmt: skip


def _pytest(*arguments: str) -> tuple[str, ...]:
    return (
        # the project's options share tests out with pytest-xdist, where there is one
        "{python}", "-m", "pytest", "-o", "addopts=", "-p", "no:xdist", "-p", "no:cacheprovider",
        # what the oracle says on a CPU before the extension is built is no error
        "-W", "ignore:kan_fast:RuntimeWarning",
        "-p", "gpu_suite.pytest_progress", "-rfE", "--tb=short", "-v", *arguments,
    )  # fmt: skip


def _tests(kind: str, quick: bool, rehearse: bool) -> tuple[str, ...]:
    files = {
        # what only a GPU can show comes before what the interpreter has shown
        "tests": (
            "tests/test_gpu.py", "tests/test_gpu_graphs.py", "tests/test_gpu_streams.py",
            *(() if quick else ("tests/test_gpu_torch.py",)), "tests/test_triton.py",
            *(() if quick else ("tests/test_device_kernels.py", "tests/test_triton_backend.py")),
        ),
        "tests-cuda": ("tests/test_cuda.py",),
        "tests-memory": ("tests/test_gpu_memory.py",),
    }[kind]  # fmt: skip
    chosen: tuple[str, ...] = ()
    if rehearse:
        small = "7x2x5x5 or 131x3x1x5 or networks_in_one_launch or copies or memory_that_ends"
        chosen = ("-k", small)
    elif quick:
        chosen = ("-k", "shapes or precision or half or repeats or networks or gpu")
    return _pytest("--shard={share}", *files, *chosen)


def _sanitized(tool: str, limit: float) -> Part:
    small = "7x2x5x5 or 65x17x4x3 or 40x7x16x20 or networks_in_one_launch"
    # torch and Triton handle the errors of some API calls, which memcheck alone reports
    quiet = ("--report-api-errors", "no") if tool == "memcheck" else ()
    return Part(
        tool,
        _supervised(
            tool, 1, limit, "", "9", "compute-sanitizer", "--tool", tool, *quiet,
            "--error-exitcode", "9",
            *_pytest("tests/test_device_kernels.py", "tests/test_cuda.py", "-k", small),
        ),
        limit, ("build",), programs=("compute-sanitizer",),
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
    )  # fmt: skip


def parts(quick: bool = False, rehearse: bool = False) -> list[Part]:
    """All parts of one of the two forms."""

    def at(whole: float, in_quick: float) -> float:
        return in_quick if quick else whole

    small = ("--rehearse",) if rehearse else ()
    many = processes()
    bench = ("{python}", "bench/gpu.py", *small)
    # a tensor on the CPU is one that a GPU would have had
    one_thread = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    found = [
        Part(
            "facts", ("{python}", "-m", "gpu_suite.facts", "{work}/facts.json"), 25,
            unless=(),
        ),
        Part(
            "compile-core",
            ("{python}", "-m", "gpu_suite.warm", "--facts", "{work}/facts.json", "--logs",
             "{work}/logs/compile-core", "core", "ratios"),
            at(34, 28), environment=one_thread,
        ),
        # the default path, which is Triton's and needs no extension
        Part(
            "core", _supervised("core", min(2, many), 20, "PASS", "0", *_pytest("--shard={share}",
            "tests/test_gpu_core.py")), at(30, 20),
            environment={"KAN_FAST_ALLOW_REFERENCE": "1"},
        ),
        Part(
            "ratios",
            _supervised(
                "ratios", 1, at(20, 15), "", "0", *bench, "--core", "--json", "{out}/core.json"
            ),
            at(30, 18),
        ),
        Part(
            "build",
            ("{python}", "-m", "gpu_suite.build", "--facts", "{work}/facts.json", "--folder",
             "{work}/cxx"),
            at(95, 50), unless=(),
        ),
    ]  # fmt: skip
    if not quick:
        found.append(
            Part(
                "compile-tests",
                ("{python}", "-m", "gpu_suite.warm", "--facts", "{work}/facts.json", "--logs",
                 "{work}/logs/compile-tests", "tests", "bench"),
                45, environment=one_thread,
            )
        )  # fmt: skip
    kinds = [("tests", many, at(80, 16)), ("tests-cuda", many, at(25, 13))]
    if not quick:
        # one at a time: each takes most of the GPU's memory
        kinds.append(("tests-memory", 1, 34.0))
    for kind, shares, limit in kinds:
        found.append(
            Part(
                kind,
                _supervised(
                    kind, shares, min(limit, at(45, 15)), "", "0", *_tests(kind, quick, rehearse)
                ),
                limit,
                # Triton's kernels need no extension; where they are all there is, they are tested
                ("build",) if kind == "tests-cuda" else (),
                environment={**one_thread, "KAN_FAST_ALLOW_REFERENCE": "1"},
            )
        )
    if quick:
        return found
    return [
        *found,
        _sanitized("memcheck", 30),
        _sanitized("racecheck", 28),
        Part(
            "layers",
            _supervised(
                "layers", 1, 25, "", "0", "{python}", "bench/kernels.py", "--device", "cuda",
                "--suite", "gpu-wide", "--seconds", "0.05", "--json", "{out}/gpu_kernels.json",
                *small,
            ),
            36,
        ),
        Part("bench", _supervised("bench", 1, 40, "", "0", *bench, "--json", "{out}/gpu.json"), 60),
    ]  # fmt: skip


def check_limits() -> None:
    """By construction: the limits, with what is left for the driver, are within those promised."""
    for quick, most in ((True, QUICK), (False, WHOLE)):
        for rehearse in (True, False):
            total = sum(part.limit for part in parts(quick, rehearse))
            assert total <= most - (0 if quick else 8), f"limits add up to {total} s"


check_limits()
