"""Which sources these are: a commit, or a digest of them where there is no repository.

The standard library alone, and nothing of kan_fast: programs that do without torch run this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from pathlib import Path

#: of a source tree: what results depend on
_SOURCES = ("kan_fast", "kernels", "csrc", "bench")
_KINDS = {".py", ".h", ".cpp", ".cu", ".cuh", ".json", ".sh"}


def of(tree: Path, known: str | None = None) -> str:
    """The commit of a source tree; "release" of an installed package.

    Args:
        tree: the folder that holds `kan_fast/`.
        known: the answer, from whoever unpacked an archive (KAN_FAST_COMMIT).
    """
    if known:
        return known
    # an installed package may lie inside somebody else's repository
    if (tree / ".git").exists():
        describe = ["git", "describe", "--always", "--dirty"]
        with contextlib.suppress(OSError):
            done = subprocess.run(describe, cwd=tree, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return digest(tree) if (tree / "CMakeLists.txt").exists() else "release"


def digest(tree: Path) -> str:
    """Of the sources' names and contents; equal for equal sources, wherever they lie."""
    total = hashlib.sha256((tree / "CMakeLists.txt").read_bytes())
    for folder in _SOURCES:
        for path in sorted((tree / folder).rglob("*")):
            relative = path.relative_to(tree)
            # the link that stands for kernels/triton_jit, and results, are not sources
            skipped = {"_triton_jit", "results", "__pycache__"} & set(relative.parts)
            if path.suffix in _KINDS and path.is_file() and not skipped:
                total.update(f"{relative.as_posix()}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sources {total.hexdigest()[:12]}"
