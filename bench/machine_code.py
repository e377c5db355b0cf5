"""NVIDIA's programs that read machine code."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any


def tool(name: str) -> str | None:
    """Path of cuobjdump, nvdisasm or ptxas: Triton's wheel brings them along."""
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        inside = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / name
        if inside.exists():
            return str(inside)
    return shutil.which(name)


def output(*command: Any) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
