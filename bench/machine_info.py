"""What a figure depends on."""

from __future__ import annotations

import os
import platform
import subprocess

import torch

import kan_fast
from kan_fast import machine
from kan_fast.cli import info

#: what `bench/gpu_suite.sh --rehearse` runs on the CPU must not pass for a measurement
REHEARSAL: dict = {"rehearsal": True} if os.environ.get("KAN_FAST_SUITE_REHEARSAL") == "1" else {}


def collect() -> dict:
    """CPU, threads, versions and commit; and whether this is only a rehearsal of a GPU run."""
    return REHEARSAL | {
        "cpu": info.cpu(),
        "threads": torch.get_num_threads(),
        "isa": machine.facts().extension,
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kan_fast": kan_fast.__version__,
        "commit": info.commit(),
    }


def gpu() -> dict:
    """GPU, driver, CUDA and Triton."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
    try:
        smi = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        smi = f"does not answer: {type(error).__name__}"
    found = {"nvidia_smi": smi, "cuda": torch.version.cuda, "triton": machine.facts().triton}
    if REHEARSAL:
        return found | {"gpu": "none, a rehearsal"}
    return found | {
        "gpu": torch.cuda.get_device_name(),
        "capability": torch.cuda.get_device_capability(),
    }
