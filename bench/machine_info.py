"""What a figure depends on."""

from __future__ import annotations

import platform
import subprocess

import torch

import kan_fast
from kan_fast import machine
from kan_fast.cli import info


def collect() -> dict:
    """CPU, threads, versions and commit."""
    return {
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
    done = subprocess.run(query, capture_output=True, text=True)
    return {
        "gpu": torch.cuda.get_device_name(),
        "capability": torch.cuda.get_device_capability(),
        "nvidia_smi": done.stdout.strip(),
        "cuda": torch.version.cuda,
        "triton": machine.facts().triton,
    }
