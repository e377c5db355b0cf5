"""The libraries that kan_fast accelerates, for tests and benches to run beside ours.

Each is fetched once from the package index into `build/real-libraries`, without what it depends on,
since only its KAN layers are used; none of its code is in this repository. A variable of the
environment (docs/envs.md) names another copy instead, and an empty one none at all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "build/real-libraries"


class Missing(Exception):
    """A library is not here; the text says why and what to do."""


def efficient_kan() -> list[str]:
    """Source files of efficient-kan: two public copies of different age."""
    return _named("KAN_FAST_EFFICIENT_KAN") or [
        _file("imodelsx==1.0.14", "imodelsx/kan/kan_modules.py"),
        _file("kan-gpt==1.2.0", "kan_gpt/efficient_kan/model.py"),
    ]


def pykan() -> str:
    """The folder to add to `sys.path` for `import kan`."""
    return (_named("KAN_FAST_PYKAN") or [_file("pykan==0.2.8", "")])[0]


def fast_kan() -> str:
    """A source file with `FastKANLayer`."""
    named = _named("KAN_FAST_FAST_KAN")
    inside = "nas/model/pytorch/layers/torch_conv_kan/layers.py"
    return (named or [_file("kan-o-nas==0.1.0", inside)])[0]


def cheby_kan() -> str:
    """A source file with a layer of ChebyKAN."""
    return (_named("KAN_FAST_CHEBY_KAN") or [_file("deep-kan==0.0.4", "deepkan/deepkan.py")])[0]


def _named(variable: str) -> list[str]:
    """The paths that a variable names, separated by ':'."""
    value = os.environ.get(variable)
    if value == "":
        raise Missing(f"{variable} is empty; unset it to fetch the library")
    return value.split(":") if value else []


def _file(requirement: str, inside: str) -> str:
    folder, why = _fetched(requirement)
    if why:
        raise Missing(why)
    return str(folder / inside)


@functools.cache
def _fetched(requirement: str) -> tuple[Path, str]:
    """The folder with a package, fetched if need be, and why it is not there."""
    folder = FOLDER / requirement.replace("==", "-")
    if folder.exists():
        return folder, ""
    try:
        with _alone():
            return folder, "" if folder.exists() else _fetch(requirement, folder)
    except (OSError, ImportError) as error:
        return folder, f"{requirement} cannot be kept in {FOLDER}: {error}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: tests run in several."""
    import fcntl

    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(requirement: str, folder: Path) -> str:
    """Fetches a package; the reason if that fails, which stands for ten minutes."""
    failed = folder.with_name(f"{folder.name}.failed")
    if failed.exists() and time.time() - failed.stat().st_mtime < 600:
        return failed.read_text()
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        target = Path(temporary) / "package"  # made by pip, with the usual mode
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        command += ["--retries", "1", "--timeout", "20", "--target", str(target), requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            target.rename(folder)
            failed.unlink(missing_ok=True)
            return ""
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    why = f"{requirement} is not here and pip could not fetch it ({said[:150]}); use a network"
    failed.write_text(why)
    return why
