"""Finds the fastest tiles of the Triton kernels for the layers that you name, and keeps them.

Without this the shipped tables decide. Results hold for this GPU, torch and Triton.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import torch

from kan_fast import machine
from kan_fast.backends import BACKENDS
from kan_fast.backends.triton import tuned
from kan_fast.spec import Problem

name = "tune"
summary = "search the fastest tiles for your layers on this GPU (minutes)"

#: rows x in_features x out_features
_USUAL = ("1024x64x64", "4096x128x128", "4096x512x512", "4096x1024x1024", "65536x64x64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shapes", nargs="*", default=list(_USUAL), metavar="ROWSxINxOUT",
        help=f"layers to tune (default: {' '.join(_USUAL)})",
    )  # fmt: skip
    parser.add_argument("--grid-size", type=int, default=5)
    parser.add_argument("--spline-order", type=int, default=3)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16", "float64"), default="float32"
    )
    parser.add_argument(
        "--precision", choices=("highest", "high", "medium"), default="highest",
        help="of float32 products, as torch.set_float32_matmul_precision takes it",
    )  # fmt: skip


def _trials(args: argparse.Namespace) -> list:
    from kan_fast.cli.search_tiles import Trial

    found = []
    for shape in args.shapes:
        numbers = shape.split("x")
        if len(numbers) != 3 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
            raise ValueError(
                f"a shape is ROWSxINxOUT with numbers above 0, such as {_USUAL[0]}; got {shape!r}"
            )
        dtype = getattr(torch, args.dtype)
        found.append(Trial(*map(int, numbers), args.grid_size, args.spline_order, dtype))
    return found


def _shown(findings: Iterable, total: int) -> Iterator:
    """The findings, behind a progress bar where there is a terminal and rich is installed."""
    try:
        from rich.progress import track
    except ImportError:
        yield from findings
        return
    yield from track(findings, description="tuning", total=total, disable=not sys.stderr.isatty())


def run(args: argparse.Namespace) -> int:
    try:
        trials = _trials(args)
    except ValueError as error:
        print(f"kan-fast tune: {error}", file=sys.stderr)
        return 2
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    device = "cpu" if capability is None else "cuda"
    problem = Problem(device, args.dtype, args.spline_order, None, capability)
    refusal = BACKENDS["triton"].why_not(problem, machine.facts())
    if refusal is not None:
        print(f"kan-fast tune: nothing to tune here, {refusal}", file=sys.stderr)
        return 2
    from kan_fast.cli.search_tiles import search

    torch.set_float32_matmul_precision(args.precision)
    found = torch.device(device, torch.cuda.current_device())
    for finding in _shown(search(trials, found), 2 * len(trials)):
        t = finding.trial
        print(
            f"{t.rows}x{t.in_features}x{t.out_features}  {finding.kind:10s}"
            f"{finding.milliseconds:9.3f} ms, by rule {finding.rule_milliseconds:9.3f} ms"
        )
    print(f"kept in {tuned.path(machine.gpu(found))}")
    return 0
