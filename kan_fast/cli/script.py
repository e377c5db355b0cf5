"""Runs a Python script or module with its KAN layers accelerated; the code stays as it is.

python -m kan_fast [-v] [--verify N] [--compare] script.py arguments ...
python -m kan_fast [-v] [--verify N] [--compare] -m package.module arguments ...
"""

from __future__ import annotations

import atexit
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kan_fast import envs
from kan_fast.cli import children
from kan_fast.interop import zero_code

USAGE = """usage: python -m kan_fast [-v] [--verify N] [--compare] (script.py | -m module) [...]
   or: python -m kan_fast (demo | bench | info | doctor | tune) ...

  -v          say of every KAN layer what was decided
  --verify N  compare the first N calls of every layer with its own forward
  --compare   run it as it is first, in a process of its own without output, and print how many
              times as fast it is accelerated
  -m module   run a module instead of a script

KAN_FAST_DISABLE=1 runs the script as it is."""


#: what `_time_plain` passes to its process: no acceleration, seconds to a file
_CLOCK = "--plain-with-clock"


def _time_plain(what: Sequence[str]) -> float | None:
    """Seconds that a script takes as it is, imports of torch left out; None if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "seconds"
        command = [sys.executable, "-m", "kan_fast", _CLOCK, str(clock), *what]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode != 0 or not clock.exists():
            return None
        return float(clock.read_text())


def _say(seconds: float, plain: float | None, folder: Path | None) -> None:
    counted = zero_code.tally()
    if counted is None or folder is None:
        print(zero_code.summary(), file=sys.stderr)
    else:
        of_children, told, silent = children.collect(folder)
        counted.add(of_children)
        text = counted.text()
        if told or silent:
            text += f"\n  {told} child processes are counted"
            text += f", {silent} are not: they ended before they could tell" if silent else ""
        print(text, file=sys.stderr)
    if plain is not None:
        print(
            f"kan_fast: {plain:.2f} s as it is, {seconds:.2f} s accelerated: "
            f"{plain / seconds:.1f} times as fast",
            file=sys.stderr,
        )


def run(argv: Sequence[str]) -> int | None:
    """Runs what `argv` asks for in this process, as `__main__`.

    Returns:
        2 where there is nothing to run, None where the script has come to its end; a script that
        exits or raises does so from here.
    """
    rest = list(argv)
    verbose, verify, module, compare, clock = False, 0, None, False, None
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-h", "--help"):
            print(USAGE)
            return 0
        if option in ("-v", "--verbose"):
            verbose = True
        elif option == "--verify" and rest and rest[0].isdecimal():
            verify = int(rest.pop(0))
        elif option.startswith("--verify=") and option[9:].isdecimal():
            verify = int(option[9:])
        elif option == "--compare":
            compare = True
        elif option == _CLOCK and rest:
            clock = rest.pop(0)
        elif option == "-m" and rest:
            module = rest.pop(0)
            break
        else:
            print(f"kan_fast: cannot read {option!r} here\n\n{USAGE}", file=sys.stderr)
            return 2
    if module is None and (not rest or not Path(rest[0]).exists()):
        got = f"no file {rest[0]!r}" if rest else "no script"
        print(f"kan_fast: expected a script or -m module, got {got}\n\n{USAGE}", file=sys.stderr)
        return 2
    what = [*(["-m", module] if module else []), *rest]
    plain = _time_plain(what) if compare else None
    start = time.perf_counter()
    if clock is not None:
        atexit.register(lambda: Path(clock).write_text(str(time.perf_counter() - start)))
    else:
        zero_code.install(verify, verbose)
        folder = None if envs.DISABLE else children.prepare(verify)
        this = os.getpid()
        # a child by fork() has this at its exit, too
        atexit.register(
            lambda: os.getpid() == this and _say(time.perf_counter() - start, plain, folder)
        )
    if module is not None:
        sys.argv = [module, *rest]
        sys.path.insert(0, "")
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return None
    sys.argv = rest
    sys.path.insert(0, str(Path(rest[0]).resolve().parent))
    runpy.run_path(rest[0], run_name="__main__")
    return None
