"""Processes that a script under `python -m kan_fast` starts: accelerated like it, and counted.

A variable names a folder. A child notes there that it has met a KAN layer, and at its end
what it counted; the script's last lines add that up, and say how many did not come that far.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from multiprocessing import util
from pathlib import Path

from kan_fast import envs
from kan_fast.interop import zero_code
from kan_fast.interop.tally import Tally

_HOOK = Path(__file__).parent / "child"


def prepare(verify: int) -> Path:
    """Lets the processes that this one starts be accelerated; returns their folder of counts."""
    folder = Path(tempfile.mkdtemp(prefix="kan_fast_"))
    envs.let_children_be_accelerated(_HOOK, folder, verify)
    # a child by fork() has all of this process, and only has to count from zero
    os.register_at_fork(after_in_child=_forked)
    util.register_after_fork(zero_code, lambda _: _at_the_end())
    return folder


def begin() -> None:
    """Accelerates this process, a child, and lets it tell what it counted."""
    _, verify = envs.of_parent()
    zero_code.install(verify)
    zero_code.on_first_layer(_mark)
    os.register_at_fork(after_in_child=_forked)
    util.register_after_fork(zero_code, lambda _: _at_the_end())
    _at_the_end()


def _forked() -> None:
    zero_code.reset()
    zero_code.on_first_layer(_mark)


def _at_the_end() -> None:
    # processes of multiprocessing end without atexit, and others without finalizers
    util.Finalize(None, _tell, exitpriority=-100)
    atexit.register(_tell)


def _file(suffix: str) -> Path:
    return envs.of_parent()[0] / f"{os.getpid()}{suffix}"


def _mark() -> None:
    try:
        _file(".begun").touch()
    except OSError:  # the script has ended before its child
        pass


def _tell() -> None:
    counted = zero_code.tally()
    try:
        if counted is not None and _file(".begun").exists():
            _file(".json").write_text(json.dumps(counted.as_json()))
    except OSError:
        pass


def collect(folder: Path) -> tuple[Tally, int, int]:
    """What the children counted, how many told, and how many did not; removes the folder."""
    total, told = Tally(), 0
    begun = {path.stem for path in folder.glob("*.begun")}
    for path in folder.glob("*.json"):
        try:
            total.add(Tally.of_json(json.loads(path.read_text())))
        except ValueError:  # it ended while it wrote
            continue
        told += 1
        begun.discard(path.stem)
    shutil.rmtree(folder, ignore_errors=True)
    return total, told, len(begun)
