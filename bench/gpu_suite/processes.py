"""Processes that end when they should, with everything that they have started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)
#: how often a process is looked at
POLL = 0.1


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, so that it is found."""
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Called in a new process: a suite that is killed must not leave a part at work."""
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(
    command: Sequence[str], environment: Mapping[str, str], log: IO[bytes], cwd: Path
) -> subprocess.Popen:
    """The command in a session of its own, both outputs in `log`."""
    return subprocess.Popen(
        list(command), env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
    )  # fmt: skip


def descendants(root: int) -> list[int]:
    """All living processes below `root`, whatever session or group they have moved to."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # the name in brackets may hold spaces and brackets itself
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry))
    found, rest = [], [root]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(process: subprocess.Popen, grace: float) -> None:
    """TERM to the process and all below it, KILL after `grace` seconds."""

    def alive() -> list[int]:
        return [*descendants(process.pid), *([process.pid] if process.poll() is None else [])]

    _signal(alive(), signal.SIGTERM)
    until = time.monotonic() + grace
    while alive() and time.monotonic() < until:
        time.sleep(POLL / 2)
    # what is started meanwhile is found the next time round; a process that the kernel does not
    # let go of (a driver that hangs) is left alone after a while
    until = time.monotonic() + max(1.0, grace)
    while (left := alive()) and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        time.sleep(POLL / 2)


def end_orphans() -> None:
    """Ends whatever a process that is gone has left behind, if `adopt_orphans` was called."""
    until = time.monotonic() + 2.0
    while (left := descendants(os.getpid())) and time.monotonic() < until:
        _signal(left, signal.SIGKILL)
        time.sleep(POLL / 2)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait(
    process: subprocess.Popen, deadline: float, grace: float, meanwhile: Callable[[], None]
) -> bool:
    """Whether the process ended by itself; else it was ended `grace` seconds before `deadline`."""
    while process.poll() is None:
        if time.monotonic() >= deadline - grace:
            end(process, grace)
            meanwhile()
            return False
        meanwhile()
        time.sleep(POLL)
    meanwhile()
    return True


def how_it_ended(code: int | None) -> str:
    """An exit code, or the name of the signal, in words."""
    if code is None:
        return "could not be ended"
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"
