"""Runs a Python script or module with its KAN layers accelerated; the code stays as it is.

python -m kan_fast [-v] [--verify N] script.py arguments ...
python -m kan_fast [-v] [--verify N] -m package.module arguments ...
"""

from __future__ import annotations

import atexit
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from kan_fast import zero_code

USAGE = """usage: python -m kan_fast [-v] [--verify N] (script.py | -m module) [arguments ...]
   or: python -m kan_fast (demo | info | doctor | tune) ...

  -v          say of every KAN layer what was decided
  --verify N  compare the first N calls of every layer with its own forward
  -m module   run a module instead of a script

KAN_FAST_DISABLE=1 runs the script as it is."""


def run(argv: Sequence[str]) -> int | None:
    """Runs what `argv` asks for in this process, as `__main__`.

    Returns:
        2 where there is nothing to run, None where the script has come to its end; a script that
        exits or raises does so from here.
    """
    rest = list(argv)
    verbose, verify, module = False, 0, None
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
    zero_code.install(verify, verbose)
    atexit.register(lambda: print(zero_code.summary(), file=sys.stderr))
    if module is not None:
        sys.argv = [module, *rest]
        sys.path.insert(0, "")
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return None
    sys.argv = rest
    sys.path.insert(0, str(Path(rest[0]).resolve().parent))
    runpy.run_path(rest[0], run_name="__main__")
    return None
