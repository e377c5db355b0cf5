"""Tiles that a search found on this GPU, in a file of the user's cache.

One file a GPU, torch and triton. Rows are counted in powers of two, so that a batch that varies
neither searches nor compiles again. Files are replaced whole, so processes that write at once lose
a result at most; where the folder cannot be written, results last as long as the process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import tempfile
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from kan_fast import envs

_log = logging.getLogger("kan_fast")
_known: dict[Path, dict[str, Any]] = {}
_forced: dict[str, Any] = {}
_generation = 0


def generation() -> int:
    """Grows whenever a tile that was looked up may have changed; what is kept of one holds for a
    generation."""
    return _generation


def _changed() -> None:
    global _generation
    _generation += 1


@functools.cache
def _triton_version() -> str:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "none"


def path(gpu: Any) -> Path:
    """The file for a GPU (`machine.Gpu`)."""
    words = (gpu.name, *gpu.capability, torch.__version__, _triton_version())
    return (
        envs.cache_dir() / "tiles" / (re.sub(r"[^\w.+]+", "-", "_".join(map(str, words))) + ".json")
    )


def key(kind: str, shape: Any) -> str:
    """What a result holds for: a kind of kernel and a `tiles.Shape`, rows in powers of two."""
    bucket = 1 << max(0, shape.rows - 1).bit_length()
    numbers = (
        bucket, shape.in_features, shape.out_features, shape.num_basis,
        shape.spline_order,
    )  # fmt: skip
    return f"{kind} {shape.precision} " + "x".join(map(str, numbers))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("kan_fast: the tuned tiles in %s cannot be read (%s); delete it", file, error)
        return {}
    return found if isinstance(found, dict) else {}


def _all(file: Path) -> dict[str, Any]:
    if file not in _known:
        _known[file] = _read(file)
    return _known[file]


@contextlib.contextmanager
def using(kind: str, tile: Any) -> Iterator[None]:
    """Every launch of a kind runs with this tile."""
    _forced[kind] = tile
    _changed()
    try:
        yield
    finally:
        del _forced[kind]
        _changed()


def forced(kind: str) -> Any:
    """The tile of an enclosing `using`, or None."""
    return _forced.get(kind)


def lookup(kind: str, shape: Any, fields: Collection[str]) -> dict[str, int] | None:
    """The tuned tile where there is one with these fields, or None."""
    if shape.gpu.interpreter:
        return None
    found = _all(path(shape.gpu)).get(key(kind, shape))
    usable = isinstance(found, dict) and found.keys() == fields
    return found if usable and all(isinstance(n, int) for n in found.values()) else None


def store(kind: str, shape: Any, tile: dict[str, int]) -> bool:
    """Keeps a tile; says whether it is on disk, too."""
    file = path(shape.gpu)
    _all(file)[key(kind, shape)] = tile
    _changed()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # what other processes have found since
        merged = {**_read(file), **_known[file]}
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        with os.fdopen(handle, "w") as stream:
            json.dump(merged, stream, indent=1, sort_keys=True)
        os.replace(temporary, file)
    except OSError as error:
        _log.warning("kan_fast: tuned tiles cannot be kept in %s (%s)", file, error)
        return False
    _known[file] = merged
    _changed()
    return True


def forget() -> None:
    """Reads the file anew at the next look."""
    _known.clear()
    _changed()
