"""How much faster is a KAN on this machine? Every library that is found takes turns with the MLP of
as many parameters. With --mine a table for one shape, else a report as HTML, Markdown and JSON."""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import kan_fast
from kan_fast.baselines import mlp, same_parameter_widths
from kan_fast.cli import bench_report, info, timing
from kan_fast.cli.plain_kan import PlainKANLinear
from kan_fast.cli.shapes import CPU, Shape
from kan_fast.reference import kan_linear as oracle

name = "bench"
summary = "measure this machine, or your own shape: kan-fast bench --mine 784,64,10 (demo extra)"

#: what a sweep varies, one at a time, around this shape
BASE = Shape(1024, (64, 64), 5)
SWEEPS: dict[str, dict[int, Shape]] = {
    "rows": {n: replace(BASE, rows=n) for n in (16, 64, 256, 1024, 4096, 16384)},
    "width": {n: replace(BASE, widths=(n, n)) for n in (8, 32, 64, 128, 256)},
    "grid_size": {n: replace(BASE, grid_size=n) for n in (3, 5, 10, 20, 50, 100)},
    "spline_order": {n: replace(BASE, spline_order=n) for n in (1, 2, 3, 5, 7)},
}
#: peers of a clone that say nothing that is not said yet
_LEFT_OUT = ("oracle", "equal-width mlp", "mlp", "kan_fast")
#: what torch.compile is asked to do its best on
_COMPILED = ("mlp", "plain PyTorch", "efficient-kan", "fast-kan")


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.replace("-", ",").split(","))
    if len(widths) < 2 or min(widths) < 1:
        raise argparse.ArgumentTypeError(f"two positive widths at least, such as 784,64,10: {text}")
    return widths


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 at least: {text}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mine", type=_widths, metavar="WIDTHS", help="one shape: 784,64,10")
    parser.add_argument("--rows", type=_count, default=256, help="of --mine, default %(default)s")
    parser.add_argument("--grid", type=_count, default=5, help="of --mine, default %(default)s")
    parser.add_argument(
        "--order", type=int, choices=range(8), default=3, metavar="K", help="0..7, default 3"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="per library and shape, default %(default)s"
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="and the plain ones under torch.compile",
    )
    parser.add_argument("--quick", action="store_true", help="two shapes and two points of a sweep")
    parser.add_argument(
        "--out", type=Path, default=Path("bench_report"), help="folder, default %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="with --mine: print JSON")


def libraries(shape: Shape, compiled: bool) -> dict[str, nn.Module]:
    """The models of a shape: the MLP with as many parameters first, then all that are found, and
    where `compiled` the plain ones again under torch.compile."""
    layout = (shape.widths, shape.grid_size, shape.spline_order)

    def plain() -> nn.Module:
        pairs = zip(shape.widths, shape.widths[1:], strict=False)
        return nn.Sequential(*[PlainKANLinear(i, o, *layout[1:]) for i, o in pairs])

    found: dict[str, nn.Module] = {
        "mlp": mlp(same_parameter_widths(*layout)),
        "kan_fast": kan_fast.KAN(*layout),
        "plain PyTorch": plain(),
        "accelerated": kan_fast.accelerate(plain(), strict=True),
    }
    # in a clone, public packages join: bench/peers.py says which and how they are found
    folder = Path(kan_fast.__file__).parent.parent / "bench"
    if (folder / "peers.py").exists():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        import peers

        # other families with as many functions an input
        dense = peers.full_models(shape.widths, shape.grid_size + shape.spline_order)
        for group in (peers.models(*layout), *dense.values()):
            found |= {n: m for n, m in group.items() if n not in _LEFT_OUT}
    if compiled:
        # what an earlier shape compiled counts against the number of recompilations
        torch.compiler.reset()
        found |= {f"compiled {n}": torch.compile(found[n]) for n in _COMPILED if n in found}
    return found


def _error(model: kan_fast.KAN, x: torch.Tensor) -> float:
    """Largest error of a few outputs against float64, over the largest output."""
    few = x[:256].detach()
    with torch.no_grad():
        found, truth = model(few), few.double()
        for layer in model.layers:
            basis = kan_fast.ops.plan.basis_of(layer.spline_order, "silu")
            parameters = (layer.spline_weight, layer.spline_scaler, layer.base_weight)
            truth = oracle(truth, layer.grid.double(), *[p.double() for p in parameters], basis)
    return float((found - truth).abs().max() / truth.abs().max())


def measure(shape: Shape, seconds: float, compiled: bool = False) -> dict[str, Any]:
    """Step, forward, memory and accuracy of every library."""
    torch.manual_seed(0)
    models = libraries(shape, compiled)
    x = shape.inputs().requires_grad_()
    row: dict[str, Any] = {"shape": str(shape), "floor": shape.floor}
    for kind, run_of in (("step", timing.step), ("forward", timing.forward)):
        runs: dict[str, Callable[[], None]] = {}
        for title, model in models.items():
            run = functools.partial(run_of, model, x)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    run()
                runs[title] = run
            except Exception as error:  # another library's own trouble
                if title in ("mlp", "kan_fast"):
                    raise
                row.setdefault("left_out", {})[title] = f"{type(error).__name__}: {error}"
        times = timing.interleaved(runs, seconds, "mlp")
        row[kind] = {
            title: {
                "milliseconds": statistics.median(taken) * 1e3,
                "over_mlp": timing.ratio(taken, times["mlp"]),
                "over_kan_fast": timing.ratio(taken, times["kan_fast"]),
            }
            for title, taken in times.items()
        }
    row["peak_bytes"] = {
        title: timing.peak_bytes(functools.partial(timing.step, models[title], x))
        for title in row["step"]
        # of whose memory the profiler sees a part
        if not title.startswith("compiled")
    }
    row["error"] = _error(models["kan_fast"], x)
    return row


def _kernels(shape: Shape, seconds: float) -> dict[str, Any]:
    """A layer's kernels beside the matrix products of as many parameters."""
    torch.manual_seed(0)
    (i, o), terms = shape.widths, shape.grid_size + shape.spline_order + 1
    layer = kan_fast.KANLinear(i, o, shape.grid_size, shape.spline_order)
    x = shape.inputs().requires_grad_()
    wide, y = torch.randn(i, o * terms), torch.empty(shape.rows, o * terms)
    runs = {
        "gemm": lambda: torch.mm(x.detach(), wide, out=y),
        "forward": functools.partial(timing.forward, layer, x),
        "step": functools.partial(timing.step, layer, x),
    }
    times = timing.interleaved(runs, seconds, "gemm")
    dense = 2 * shape.rows * i * o * terms
    median = {n: statistics.median(t) for n, t in times.items()}
    return {
        "layer": str(shape),
        "floor": shape.floor,
        "gemm_gflops": dense / median["gemm"] / 1e9,
        # what the spline needs, not what a dense product would do
        "forward_gflops": dense * shape.floor / median["forward"] / 1e9,
        "step_gflops": 3 * dense * shape.floor / median["step"] / 1e9,
        "forward_over_floor": median["forward"] / median["gemm"] / shape.floor,
        "step_over_floor": median["step"] / median["gemm"] / 3 / shape.floor,
    }


def _tasks(args: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Section, title and measurement, in the order of the report."""
    few = 2 if args.quick else None
    for shape in CPU[:few]:
        run = functools.partial(measure, shape, args.seconds, args.compiled)
        yield "shapes", str(shape), run
    for question, points in SWEEPS.items():
        for at, shape in list(points.items())[:few]:
            yield f"sweep {question}", str(at), functools.partial(measure, shape, args.seconds)
    layers = list(dict.fromkeys(layer for shape in CPU[:few] for layer in shape.layers()))
    for layer in layers:
        yield "kernels", str(layer), functools.partial(_kernels, layer, args.seconds)


def _answer(args: argparse.Namespace) -> int:
    shape = Shape(args.rows, args.mine, args.grid, args.order)
    row = measure(shape, args.seconds, args.compiled)
    if args.json:
        print(json.dumps(row))
    else:
        bench_report.print_row(row, same_parameter_widths(args.mine, args.grid, args.order))
    return 0


def run(args: argparse.Namespace) -> int:
    try:
        from rich.progress import Progress
    except ImportError:
        print('kan-fast bench needs the demo extra: python -m pip install "kan-fast[demo]"')
        return 2
    if args.mine:
        return _answer(args)
    result: dict[str, Any] = {"machine": info.collect(), "commit": info.commit()}
    tasks = list(_tasks(args))
    with Progress() as progress:
        bar = progress.add_task("measuring", total=len(tasks))
        for section, title, task in tasks:
            progress.update(bar, description=f"{section}: {title}")
            result.setdefault(section, {})[title] = task()
            progress.advance(bar)
    for path in bench_report.write(result, args.out):
        print(path)
    return 0
