"""Runs the parts one after the other; none can take the time of a later one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_suite import processes, progress, results
from gpu_suite.parts import GRACE, Part
from gpu_suite.supervise import last_line

#: the archive is renewed so often while a part runs
_ARCHIVE_EVERY = 10.0
_TOOLS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")


@dataclass
class Suite:
    """The state of a run of the suite.

    Args:
        root: of the source tree.
        out: the folder for results.
        work: the folder for logs, builds and compiled kernels.
        scale: of all limits.
        words: what "{name}" in a part's command and environment becomes.
    """

    root: Path
    out: Path
    work: Path
    scale: float = 1.0
    words: dict[str, str] = field(default_factory=dict)
    table: list[tuple[str, str, float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = self.work / "logs"
        self.began = time.monotonic()
        self.verdicts = results.Verdicts(self.out)
        self._archived = time.monotonic()

    def _meanwhile(self) -> None:
        self.verdicts.show()
        if time.monotonic() - self._archived > _ARCHIVE_EVERY * min(1.0, self.scale):
            self._archive()

    def _archive(self) -> None:
        results.archive(self.logs, self.out)
        self._archived = time.monotonic()

    def _filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _why_not(self, part: Part) -> str | None:
        verdicts = {name: verdict for name, verdict, _, _ in self.table}
        for name in part.after:
            if verdicts.get(name) not in ("PASS", None):
                return f"{name} did not pass"
        for name in part.unless:
            if verdicts.get(name) == "FAIL":
                return f"{name} failed"
        for program in part.programs:
            if self._program(program) is None:
                return f"{program} is not installed"
        return None

    @staticmethod
    def _program(name: str) -> str | None:
        return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_TOOLS))

    def run(self, parts: Sequence[Part]) -> int:
        """All of them; the number that failed.

        A part may run until the limits up to and including its own have passed: it always has its
        own, and what earlier ones have left.
        """
        deadline = self.began
        try:
            for part in parts:
                deadline += part.limit * self.scale
                why_not = self._why_not(part)
                if why_not:
                    self._verdict(part.name, "SKIP", 0.0, why_not)
                else:
                    self._run(part, deadline)
                self._archive()
        finally:
            self._archive()
        return sum(verdict not in ("PASS", "SKIP") for _, verdict, _, _ in self.table)

    def _run(self, part: Part, deadline: float) -> None:
        begin = time.monotonic()
        grace = min(GRACE * min(1.0, self.scale), (deadline - begin) / 4)
        results.say("BEGIN", f"{part.name}, at most {deadline - begin:.0f} s")
        environment = {
            **os.environ, **{k: self._filled(v) for k, v in part.environment.items()},
            results.PART: part.name,
            progress.UNTIL: str(time.time() + deadline - begin - grace),
        }  # fmt: skip
        command = [self._program(w) or w if w in part.programs else w for w in part.command]
        path = self.logs / f"{part.name}.log"
        process = None
        try:
            with path.open("ab") as log:
                process = processes.start(
                    [self._filled(word) for word in command], environment, log, self.root
                )
            ended = processes.wait(process, deadline, grace, self._meanwhile)
        except OSError as error:  # the command, or the disk
            self._verdict(part.name, "FAIL", time.monotonic() - begin, str(error))
            return
        finally:
            if process is not None and process.poll() is None:
                processes.end(process, grace)
            processes.end_orphans()
        seconds, said = time.monotonic() - begin, last_line(path)
        if not ended:
            self._verdict(part.name, "TIMEOUT", seconds, f"ended at its limit; {said}")
        elif process.returncode == 0:
            self._verdict(part.name, "PASS", seconds, said)
        else:
            how = processes.how_it_ended(process.returncode)
            self._verdict(part.name, "FAIL", seconds, f"{how}; {said}")

    def _verdict(self, name: str, verdict: str, seconds: float, reason: str) -> None:
        self.table.append((name, verdict, seconds, reason))
        results.say(verdict, f"{name}  {seconds:.1f} s  {reason}")
        self.verdicts.show()

    def print_table(self) -> None:
        """Every part in a line."""
        width = max((len(name) for name, *_ in self.table), default=0)
        for name, verdict, seconds, reason in self.table:
            line = f"{verdict:7s} {name:{width}s} {seconds:7.1f} s  {reason}"
            results.say("TABLE", line)
        self.verdicts.show()


def end_in_words(number: int, _: object) -> None:
    """A handler of signals: the suite is ended from outside and still says where it was."""
    name = signal.Signals(number).name
    # once: a second signal ends the process
    signal.signal(number, signal.SIG_DFL)
    results.say("KILLED", f"the suite got {name}")
    sys.exit(128 + number)
