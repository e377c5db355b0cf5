"""Runs a command that works through units, and starts it anew when a unit has ended it.

    python -m gpu_suite.supervise --progress FILE [--shares N] [--each SECONDS] [--restarts N]
        [--tell PASS] -- COMMAND...

The command finds its share in the environment (`progress.py`) and skips units that have a verdict.
The one that had begun when the process ended, or that takes longer than `--each`, gets FAIL or
TIMEOUT. "{share}" in the command becomes N/M. Exit code 0: every unit has a verdict, none failed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_suite import processes, results
from gpu_suite.progress import FILE, LOST, SHARE, TELL, Line, Progress, Reader, verdicts

#: exit codes of a command that got to its end: none failed, some failed, there were none
ENDED = (0, 1, 5)
#: a process may take so many times `--each` before its first unit: imports, the CUDA context
STARTING = 2.0


class Share:
    """One process at a time for one share of the units."""

    def __init__(self, args: argparse.Namespace, number: int, reader: Reader) -> None:
        self.args, self.number, self.reader = args, number, reader
        self.progress = Progress(args.progress, number)
        self.log = args.logs / f"{args.progress.stem}.{number}.log"
        self.tried = 0
        self.trouble = ""
        self._start()

    def _start(self) -> None:
        self.since = time.monotonic()
        self.seen = 0
        self.before = len(self.reader.more())
        share = f"{self.number}/{self.args.shares}"
        command = [word.replace("{share}", share) for word in self.args.command]
        environment = {
            **os.environ, FILE: str(self.args.progress), SHARE: str(self.number),
            TELL: self.args.tell, "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        with self.log.open("ab") as log:
            log.write(f"--- {' '.join(command)}\n".encode())
            log.flush()
            self.process = processes.start(command, environment, log, Path.cwd())

    def look(self, code: int | None) -> bool:
        """Whether this share is still at work, after what has to be done about it now.

        Args:
            code: of the process, if it has ended; asked before the lines are read.
        """
        lines = [
            line
            for line in self.reader.lines[self.before :]
            if line.share == self.number and line.verdict != "TOTAL"
        ]
        if len(lines) != self.seen:
            self.seen, self.since = len(lines), time.monotonic()
        begun = lines[-1].unit if lines and lines[-1].verdict == "BEGIN" else None
        if code is not None:
            if code in ENDED and begun is None:
                return False
            if code == self.args.final != 0:
                self.trouble = f"exit code {code}; {last_line(self.log)}"
                return False
            lost = code == LOST
            words = "its CUDA context is lost" if lost else processes.how_it_ended(code)
            return self._again(begun, "FAIL", words, counts=1 if begun or lost else 5)
        limit = self.args.each * (1.0 if begun else STARTING)
        if time.monotonic() - self.since <= limit:
            return True
        processes.end(self.process, min(2.0, self.args.each / 4))
        return self._again(begun, "TIMEOUT", f"more than {limit:.0f} s", counts=1)

    def _again(self, begun: str | None, verdict: str, words: str, counts: int) -> bool:
        """Records why the process is gone and starts another one, unless that has been tried."""
        if begun is not None:
            self.progress.end(begun, verdict, f"{words}; it ended its process", self.since)
        self.tried += counts
        if self.tried > self.args.restarts:
            where = f"in {begun}" if begun else "outside a unit"
            self.trouble = (
                f"share {self.number} is given up: {words} {where}; {last_line(self.log)}"
            )
            return False
        self._start()
        return True


def last_line(log: Path) -> str:
    """What a log says last."""
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
            lines = file.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "no output")
    return "no log"


def summary(lines: list[Line], shares: int) -> tuple[str, bool]:
    """The counts in words, and whether every unit passed or was skipped."""
    counts = collections.Counter(line.verdict for line in verdicts(lines).values())
    totals = {line.share: int(line.number) for line in lines if line.verdict == "TOTAL"}
    missing = max(0, sum(totals.values()) - sum(counts.values()))
    words = {"PASS": "passed", "FAIL": "failed", "TIMEOUT": "timed out", "SKIP": "skipped"}
    text = ", ".join(f"{counts[v]} {w}" for v, w in words.items() if counts[v]) or "nothing ran"
    if missing:
        text += f", {missing} not run"
    if len(totals) < shares:
        text += f", {shares - len(totals)} of {shares} shares did not start"
    good = not (counts["FAIL"] or counts["TIMEOUT"] or missing) and len(totals) == shares
    return text, good and counts["PASS"] > 0


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--progress", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--shares", type=int, default=1)
    parser.add_argument("--each", type=float, default=60.0)
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--final", type=int, default=0, help="an exit code that is a verdict")
    parser.add_argument("--tell", default="", help="verdicts to tell beside FAIL and TIMEOUT")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    args.each *= float(os.environ.get(results.SCALE, "1"))
    args.command = args.command[args.command[:1] == ["--"] :]
    args.logs.mkdir(parents=True, exist_ok=True)
    processes.adopt_orphans()

    def ended(*_: object) -> None:
        raise SystemExit(124)

    signal.signal(signal.SIGTERM, ended)
    shares: list[Share] = []
    reader = Reader(args.progress)
    code = 124
    try:
        shares += [Share(args, n, reader) for n in range(args.shares)]
        working = shares
        while working:
            time.sleep(processes.POLL)
            codes = [share.process.poll() for share in working]
            reader.more()
            working = [s for s, code in zip(working, codes, strict=True) if s.look(code)]
        code = 0
    finally:
        # the driver is about to end this process as well: no time for grace
        for share in shares:
            if share.process.poll() is None:
                share.process.kill()
        processes.end_orphans()
        text, good = summary(reader.more(), args.shares)
        for share in shares:
            if share.trouble:
                results.say("FAIL", f"{os.environ.get(results.PART, '')}: {share.trouble}")
                good = False
        print(text, flush=True)
    return code or int(not good)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(f"gpu_suite.supervise: {error}")
