"""Units of work (a test, a row of a bench) whose verdicts are on disk one by one.

A process that a unit ends (a segmentation fault, a CUDA context that is lost, a limit) is started
anew by `supervise` and goes on with the units that have no verdict yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_suite import results

#: where the verdicts are; which share of the units this process has; what is told at once
FILE, SHARE, TELL = (f"KAN_FAST_SUITE_{n}" for n in ("PROGRESS", "SHARE", "TELL"))
#: "1" in a suite that is no rehearsal
ON_GPU = "KAN_FAST_SUITE_ON_GPU"
#: when the driver ends the part, in seconds since the epoch
UNTIL = "KAN_FAST_SUITE_UNTIL"
#: exit code of a process that can do nothing more, because its CUDA context is lost
LOST = 79
#: errors that every later call of the process will raise as well (CUDA's "sticky" ones), by the
#: texts of the runtime, of the driver as Triton reports it, and of kan_fast._C; and those of a
#: capture that has failed, after which torch's generators may stay as if it went on
_STICKY = re.compile(
    r"illegal memory access|illegal address|illegal instruction|misaligned address|"
    r"device-side assert|unspecified launch failure|launch timed out|hardware stack error|"
    r"invalid program counter|invalid address space|invalid pc|uncorrectable (ECC|NVLink)|"
    r"context is destroyed|device(s)? (is|are) busy or unavailable|GPU is lost|"
    r"fallen off the bus|cluster out of bounds|"
    r"stream is capturing|during capture|outside graph capture|capture.{0,20}invalidated"
    r"|CUDA_ERROR_(ILLEGAL|LAUNCH_FAILED|LAUNCH_TIMEOUT|MISALIGNED|ASSERT|HARDWARE)",
    re.I,
)


def is_lost(text: str) -> bool:
    """Whether an error says that the CUDA context is gone."""
    return _STICKY.search(text) is not None


def context_is_lost() -> str | None:
    """The error of waiting for the GPU, where this process uses one and its context is gone."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except Exception as error:  # the class differs between versions
        return f"{type(error).__name__}: {error}"
    return None


def leave() -> None:
    """Ends the process at once: clean-up would wait for a GPU that does not answer."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(LOST)


@dataclass(frozen=True)
class Line:
    """One line of the file: BEGIN and TOTAL, or the verdict on a unit."""

    verdict: str
    share: int
    number: float
    unit: str
    reason: str

    @classmethod
    def parse(cls, text: str) -> Line | None:
        """None for what a kill has cut off."""
        parts = text.split("\t")
        if len(parts) != 5:
            return None
        with contextlib.suppress(ValueError):
            return cls(parts[0].strip(), int(parts[1]), float(parts[2]), parts[3], parts[4])
        return None


class Reader:
    """The whole lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self._at = path, [], 0

    def more(self) -> list[Line]:
        """All lines, after reading what is new."""
        with contextlib.suppress(FileNotFoundError):
            with self.path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._at += len(whole)
            parsed = map(Line.parse, whole.decode(errors="replace").split("\n"))
            self.lines += [line for line in parsed if line is not None]
        return self.lines


def read(path: Path) -> list[Line]:
    """All whole lines."""
    return Reader(path).more()


def named(unit: str) -> str:
    """The unit's name in the file."""
    return re.sub(r"[\t\r\n]", " ", unit)


def verdicts(lines: Iterable[Line]) -> dict[str, Line]:
    """Unit to its verdict."""
    return {line.unit: line for line in lines if line.verdict not in ("BEGIN", "TOTAL")}


class Progress:
    """The units of one process. Without a supervisor, those of this run alone."""

    def __init__(self, path: Path | None = None, share: int | None = None) -> None:
        file = os.environ.get(FILE)
        self.path = path or (Path(file) if file else None)
        self.share = int(os.environ.get(SHARE, "0")) if share is None else share
        self.done = verdicts(read(self.path)) if self.path else {}
        self._began = time.monotonic()

    def _write(self, verdict: str, number: float, unit: str, reason: str = "") -> None:
        if self.path:
            unit, reason = named(unit), results.one_line(reason)
            results.append(self.path, f"{verdict:7s}\t{self.share}\t{number:.2f}\t{unit}\t{reason}")

    def total(self, number: int) -> None:
        """How many units this process has."""
        self._write("TOTAL", number, "")

    def begin(self, unit: str) -> None:
        """Must come before the unit does anything that could end the process."""
        self._began = time.monotonic()
        self._write("BEGIN", 0.0, unit)

    def end(self, unit: str, verdict: str, reason: str = "", began: float | None = None) -> None:
        """The verdict on a unit: PASS, FAIL, SKIP or TIMEOUT.

        Args:
            began: on the monotonic clock; at its `begin` where None.
        """
        seconds = time.monotonic() - (self._began if began is None else began)
        self._write(verdict, seconds, unit, reason)
        self.done[named(unit)] = Line(verdict, self.share, seconds, unit, reason)
        told = os.environ.get(TELL, "").split()
        if verdict in ("FAIL", "TIMEOUT") or verdict in told:
            part = os.environ.get(results.PART, "")
            results.say(verdict, f"{part}: {unit}  {seconds:.1f} s  {reason}")

    def remaining(self, units: Iterable[str]) -> Iterator[str]:
        """The units without a verdict; an error of one is its verdict, and the next is yielded."""
        units = list(units)
        self.total(len(units))
        for unit in units:
            if named(unit) not in self.done:
                self.begin(unit)
                yield unit

    @contextlib.contextmanager
    def unit(self, name: str) -> Iterator[None]:
        """The body's success or error as the verdict; a lost context ends the process after it."""
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.end(name, "FAIL", text)
            if self.path and (is_lost(text) or context_is_lost()):
                leave()
        else:
            self.end(name, "PASS")
