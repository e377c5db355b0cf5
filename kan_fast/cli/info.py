"""What is installed here, and which backend runs or why it does not. Instant; compiles nothing."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from kan_fast import envs, machine
from kan_fast.backends import BACKENDS
from kan_fast.cli import commit as source_commit
from kan_fast.spec import Problem
from kan_fast.version import __version__

name = "info"
summary = "versions, CPU, extension, GPU, and each backend or why not"


def cpu() -> str:
    """The processor's own name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Of the sources that this package is; "release" of an installed one."""
    return source_commit.of(Path(__file__).parents[2], envs.COMMIT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def gpu() -> str:
    """The GPUs that torch sees, or why it sees none."""
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        return "none visible" if built else "none: this torch is a CPU build"
    return ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))


def collect() -> dict[str, Any]:
    """Everything `kan-fast info` prints."""
    facts = machine.facts()
    found: dict[str, Any] = {
        "kan_fast": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA C++": "built" if facts.cuda else "not built: no GPU or no nvcc",
        "triton": facts.triton or f"not available: {facts.triton_error}",
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "cpu": cpu(),
        "cpu features of torch": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": gpu(),
        "compiler found": shutil.which("g++") or shutil.which("clang++") or "none",
        "backend wanted": envs.BACKEND,
        "accelerate disabled": envs.DISABLE,
    }
    if facts.extension is None:
        found["extension"] = f"not available: {facts.extension_error}"
    else:
        build = machine.extension().build_info()
        found["extension"] = (
            f"{build['version']}, built by {build['compiler']}, runs {facts.extension} of "
            f"{', '.join(build['instruction_sets'])}"
        )
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    found["backends"] = {
        f"{backend} on {device}": module.why_not(
            Problem(
                device,
                "float32",
                3,
                None,
                torch.cuda.get_device_capability() if device == "cuda" else None,
            ),  # fmt: skip
            facts,
        )
        or "available"
        for backend, module in BACKENDS.items()
        for device in devices
    }
    return found


def run(args: argparse.Namespace) -> int:
    found = collect()
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    backends = found.pop("backends")
    for key, value in found.items():
        print(f"{key:22s} {value}")
    print("backends")
    for key, value in backends.items():
        print(f"  {key:20s} {value}")
    return 0
