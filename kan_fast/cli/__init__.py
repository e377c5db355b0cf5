"""The `kan-fast` command: one file a subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from kan_fast.cli import bench, demo, doctor, info, tune
from kan_fast.version import __version__

#: each module offers `name`, `summary`, `add_arguments(parser)` and `run(args) -> exit code`
COMMANDS = (demo, bench, info, doctor, tune)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand. Exit codes: 0 success, 1 a check failed, 2 it could not run."""
    parser = argparse.ArgumentParser(
        prog="kan-fast", description="Kolmogorov-Arnold Networks at the speed of an MLP."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, description=command.__doc__)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    return args.run(args)
