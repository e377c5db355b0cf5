"""The command line that the benches share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import machine_info
import torch
from gpu_suite import results

T = TypeVar("T")


def parser(description: str, seconds: float) -> argparse.ArgumentParser:
    """Options of every bench; `description` is the module's docstring."""
    options = argparse.ArgumentParser(description=description.split("\n")[0])
    options.add_argument(
        "--seconds", type=float, default=seconds, help="per entrant and shape, on average"
    )
    options.add_argument("--threads", type=int, help="default: torch's own")
    options.add_argument("--json", type=Path, help="write the figures here")
    return options


def start(options: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict]:
    """The parsed options, and what the figures depend on."""
    args = options.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    info = machine_info.collect()
    print(json.dumps(info))
    torch.manual_seed(0)
    return args, info


def selected(cases: Mapping[str, T], only: str | None) -> Iterator[tuple[str, T]]:
    """All cases, or the one that was asked for, each with the same seed."""
    for name, case in cases.items():
        if only in (None, name):
            torch.manual_seed(0)
            yield name, case


def save(args: argparse.Namespace, result: dict) -> None:
    """Writes the figures where `--json` says; a kill leaves the old ones or the new ones."""
    if args.json:
        results.write_whole(args.json, json.dumps(result, indent=1) + "\n")


def saved(args: argparse.Namespace) -> dict | None:
    """What an earlier process of the same run has saved, if there was one."""
    if args.json and args.json.exists():
        return json.loads(args.json.read_text())
    return None
