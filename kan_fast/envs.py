"""Environment variables, read once at import (docs/envs.md)."""

from __future__ import annotations

import os
from pathlib import Path

#: backend to use for every layer; "auto" lets the planner choose; `backends` checks the name
BACKEND = os.environ.get("KAN_FAST_BACKEND", "auto")
#: "1" makes `accelerate` a no-op that reports why
DISABLE = os.environ.get("KAN_FAST_DISABLE", "0") not in ("", "0")
#: whether Triton kernels run in its interpreter, on CPU tensors; a variable of Triton's own
TRITON_INTERPRET = os.environ.get("TRITON_INTERPRET", "0") == "1"
#: library with the CUDA kernels for the host, which tests build: lets CPU tensors run them
CUDA_EMULATE = os.environ.get("KAN_FAST_CUDA_EMULATE") or None

#: the commit of sources that come without a repository
COMMIT = os.environ.get("KAN_FAST_COMMIT") or None


def cache_dir() -> Path:
    """Where tuned tiles are kept; looked up when used, so that a test may point elsewhere."""
    chosen = os.environ.get("KAN_FAST_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kan_fast"


def c_compiler() -> str | None:
    """$CC, which Triton's first launch compiles with where it is set."""
    return os.environ.get("CC") or None


def quiet_profiler() -> None:
    """Keeps torch's profiler from reporting on itself, a line at each start and stop, unless
    KINETO_LOG_LEVEL says what it should report."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")


def let_children_be_accelerated(hook: Path, folder: Path, verify: int) -> None:
    """Has Python import the module in `hook` in every process that this one starts.

    Args:
        folder: for their counts.
        verify: how many calls of every layer they compare.
    """
    os.environ["KAN_FAST_CHILDREN"] = f"{verify}:{folder}"
    paths = [str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def of_parent() -> tuple[Path, int]:
    """The folder and number that the script which started this process has set."""
    verify, folder = os.environ["KAN_FAST_CHILDREN"].split(":", 1)
    return Path(folder), int(verify)
