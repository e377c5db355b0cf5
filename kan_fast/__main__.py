"""`python -m kan_fast script.py` accelerates a script; else the same as the command `kan-fast`."""

import sys

from kan_fast.cli import COMMANDS, main
from kan_fast.cli.script import run

arguments = sys.argv[1:]
is_command = not arguments or arguments[0] in {c.name for c in COMMANDS} | {"--version"}
sys.exit(main() if is_command else run(arguments))
