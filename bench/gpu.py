"""Training steps and forwards on a GPU, kan_fast and its peers over the same-parameter MLP.

    python bench/gpu.py [--core | --quick] [--seconds 0.3] [--only 512-512] [--no-peers]
        [--json FILE]

Precisions: float32 "highest" and "high", bfloat16 by autocast, for everyone alike. The MLP runs as
it is, in a CUDA graph, under torch.compile, and with hidden layers widened to a multiple of 64,
which tensor cores like better. Rates are of the dense operations, beside the rate of a large GEMM
in the same precision.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace

import gpu_rows
import gpu_timing
import machine_info
import options
import peers
import pinn
import timing
import torch
from gpu_suite import results
from gpu_timing import DEVICE
from shapes import GPU, GPU_WIDE, Shape
from torch import nn

import kan_fast
from kan_fast import envs, machine
from kan_fast.baselines import kan_parameters, mlp, same_parameter_widths

QUICK = (GPU_WIDE[0], GPU[4], GPU[9], GPU[10])
#: a first script's network, a wide layer, many rows, an image's inputs, a grid that gathers; the
#: sixth is the loss in the Laplacian
CORE = (GPU[5], GPU_WIDE[0], GPU[4], GPU[8], GPU[15])
PRECISIONS = ("highest", "bfloat16", "high")
LAPLACIAN = "loss in the Laplacian"


@contextlib.contextmanager
def precision(name: str):
    """Everyone's precision: of float32 products, or autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if name == "bfloat16" else name)
    try:
        # a step casts its weights, and no copy of an earlier step is in a graph's backward
        autocast = {"enabled": name == "bfloat16", "cache_enabled": False}
        with torch.autocast(DEVICE, torch.bfloat16, **autocast):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def padded(widths: Sequence[int]) -> list[int]:
    """Hidden layers widened to a multiple of 64."""
    return [widths[0], *(-(-h // 64) * 64 for h in widths[1:-1]), widths[-1]]


def entrants(shape: Shape, args: argparse.Namespace) -> dict[str, nn.Module]:
    """The models of a shape on the GPU; the same-parameter MLP first."""
    layout = (shape.widths, shape.grid_size, shape.spline_order)
    found = peers.ours(*layout)
    same = same_parameter_widths(*layout)
    found["padded mlp"] = mlp(padded(same))
    if not args.core:
        compiler = "inductor" if DEVICE == "cuda" else "eager"
        found["compiled mlp"] = torch.compile(mlp(same), backend=compiler)
        found["equal-width mlp"] = mlp(shape.widths)
    if not args.no_peers:
        found |= peers.models(*layout, compiled=DEVICE == "cuda")
    return {name: model.to(DEVICE) for name, model in found.items()}


def on_backend(name: str, run: gpu_timing.Run) -> gpu_timing.Run:
    """The same with every layer asked to run on a backend."""

    def asked() -> None:
        before, envs.BACKEND = envs.BACKEND, name
        try:
            run()
        finally:
            envs.BACKEND = before

    return asked


def with_backends(runs: dict[str, gpu_timing.Run], core: bool) -> None:
    """Adds the CUDA C++ kernels where they are; a rehearsal asks for Triton's by name."""
    facts, ours = machine.facts(), runs["kan_fast"]
    if DEVICE == "cpu":
        runs["kan_fast"] = on_backend("triton", ours)
    if (facts.cuda or (DEVICE == "cpu" and facts.cuda_emulated)) and not core:
        runs["cuda kan_fast"] = on_backend("cuda", ours)


def works(runs: dict[str, gpu_timing.Run], failed: dict[str, str]) -> dict[str, gpu_timing.Run]:
    """Those that get through a run."""
    found = {}
    for name, run in runs.items():
        with gpu_rows.alone(failed, name):
            run()
            gpu_timing.synchronize()
            found[name] = run
    return found


def add_graphs(runs: dict[str, gpu_timing.Run], failed: dict[str, str]) -> None:
    """The same runs as CUDA graphs, of those that matter."""
    for name in ("mlp", "padded mlp", "kan_fast", "cuda kan_fast"):
        if name in runs:
            with gpu_rows.alone(failed, f"{name}, graph"):
                runs[f"{name}, graph"] = gpu_timing.graphed(runs[name])


def over(taken: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Everyone's ratios to one entrant."""
    if base not in taken:
        return {}
    return {n: timing.ratio(t, taken[base]) for n, t in taken.items() if n != base}


def figures(runs: dict[str, gpu_timing.Run], seconds: float) -> dict:
    """Seconds, and ratios to the MLP and to the padded one."""
    taken = gpu_timing.interleaved(runs, seconds)
    return {
        "seconds": {n: statistics.median(t) for n, t in taken.items()},
        "over_mlp": over(taken, "mlp"),
        "over_padded_mlp": over(taken, "padded mlp"),
    }


def measure(shape: Shape, name: str, args: argparse.Namespace) -> dict:
    """Everything about a shape in a precision."""
    x = shape.inputs().to(DEVICE).requires_grad_()
    row: dict = {"shape": str(shape), "precision": name, "failed": {}}
    models = entrants(shape, args)
    operations = 2 * shape.rows * kan_parameters(shape.widths, shape.grid_size, shape.spline_order)
    kinds = (("step", timing.step, 3), ("forward", timing.forward, 1))
    with precision(name):
        for kind, run_of, times in kinds[: 1 if args.core else 2]:
            runs = {n: functools.partial(run_of, model, x) for n, model in models.items()}
            with_backends(runs, args.core)
            runs = works(runs, row["failed"])
            if kind == "step":
                if not args.core:
                    with gpu_rows.alone(row["failed"], "profiler"):
                        row |= _counts(runs)
                add_graphs(runs, row["failed"])
            row[kind] = figures(runs, args.seconds)
            ours = row[kind]["seconds"].get("kan_fast", float("nan"))
            row[kind]["flops_per_second"] = times * operations / ours
    return row


def _counts(runs: dict[str, gpu_timing.Run]) -> dict:
    """Launches and peak memory of a step."""
    kernels = {n: gpu_timing.launches(runs[n]) for n in ("mlp", "kan_fast") if n in runs}
    return {
        "launches": {n: sum(found.values()) for n, found in kernels.items()},
        "kernels": kernels.get("kan_fast", {}),
        "peak_bytes": {n: gpu_timing.peak_bytes(run) for n, run in runs.items()},
    }


def second_derivatives(args: argparse.Namespace) -> dict:
    """The loss in a Laplacian, [2, 8, 8, 8, 2] over the tanh MLP with as many parameters."""
    rows, widths = (4, (2, 2)) if args.rehearse else (1000, (2, 8, 8, 8, 2))
    points = (torch.rand(rows, 2) * 1.9 - 0.95).to(DEVICE)
    small = pinn.tanh_mlp(2)
    sizes = [m.in_features for m in small if isinstance(m, nn.Linear)]
    models = {"mlp": small, "kan_fast": kan_fast.KAN(widths, pinn.GRID_SIZE)}
    models["padded mlp"] = mlp(padded([*sizes, 2]), nn.Tanh)
    if not args.no_peers:
        models |= peers.models(widths, pinn.GRID_SIZE)
    runs = {n: functools.partial(pinn.step, m.to(DEVICE), points) for n, m in models.items()}
    with_backends(runs, args.core)
    row: dict = {"failed": {}}
    runs = works(runs, row["failed"])
    if not args.core:
        with gpu_rows.alone(row["failed"], "profiler"):
            row |= _counts(runs)
    add_graphs(runs, row["failed"])
    return row | figures(runs, args.seconds)


def _say(name: str, step: dict, rates: dict[str, float], row: dict) -> None:
    """The figures that matter most, in the suite's verdicts; raises if one of ours is missing."""

    def ratio(entrant: str, base: str = "over_mlp") -> str:
        found = step[base].get(entrant)
        return "failed" if found is None else "{median:.2f} [{low:.2f} {high:.2f}]".format(**found)

    seconds = step["seconds"].get("kan_fast", float("nan"))
    words = f"{name}: step {seconds * 1e3:.3f} ms, over MLP {ratio('kan_fast')}"
    words += f", over padded {ratio('kan_fast', 'over_padded_mlp')}"
    if "mlp, graph" in step["seconds"] and "kan_fast, graph" in step["seconds"]:
        graphs = step["seconds"]["kan_fast, graph"] / step["seconds"]["mlp, graph"]
        words += f", graph over graph {graphs:.2f}"
    if "cuda kan_fast" in step["over_mlp"]:
        words += f", CUDA C++ {ratio('cuda kan_fast')}"
    if "forward" in row:
        forward = row["forward"]["over_mlp"].get("kan_fast", {"median": float("nan")})
        words += f", forward {forward['median']:.2f}"
    rate = rates.get(row.get("precision", ""))
    if rate:
        words += f", {step['flops_per_second'] / rate:.0%} of the GEMM rate"
    if row.get("launches"):
        words += f", {row['launches'].get('kan_fast')} launches"
    if row["failed"]:
        words += f", left out: {', '.join(row['failed'])}"
    results.say("NOTE", words)
    ours = [f"{n}: {error}" for n, error in row["failed"].items() if "kan_fast" in n]
    if ours:  # the row is there; that it is not whole is its verdict
        raise RuntimeError("; ".join(ours))


def rows_of(args: argparse.Namespace, result: dict) -> dict:
    """Name to what makes the row."""
    rates = result["gemm_flops_per_second"]

    def add(shape: Shape, name: str) -> None:
        row = measure(shape, name, args)
        result["rows"].append(row)
        _say(f"{shape} {name}", row["step"], rates, row)

    def laplacian() -> None:
        row = second_derivatives(args)
        result["second_derivatives"] = row
        _say(LAPLACIAN, row, rates, row)

    def rate(name: str) -> None:
        with precision(name):
            dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
            rates[name] = gpu_timing.gemm_rate(dtype)
            print(f"GEMM, {name}: {rates[name] / 1e12:.0f} TFLOP/s")

    # the first are those that matter most, should there be no time for the rest
    most = dict.fromkeys((*CORE, *QUICK, *GPU))
    shapes = CORE if args.core else QUICK if args.quick else tuple(most)
    shapes = [s for s in shapes if args.only is None or args.only in str(s)]
    if args.rehearse:
        shapes = [
            replace(s, rows=8, widths=tuple(min(w, 6) for w in s.widths[-3:]),
                    grid_size=min(s.grid_size, 40)) for s in shapes
        ]  # fmt: skip
        shapes = list(dict.fromkeys(shapes))[: 5 if args.core else 3]
    rows: dict = {}
    if not args.core:
        rows |= {f"GEMM {name}": functools.partial(rate, name) for name in PRECISIONS}
    if args.only is None and not args.core:
        rows[LAPLACIAN] = laplacian
    for name in PRECISIONS[: 1 if args.core else None]:
        for shape in shapes:
            rows[f"{shape} {name}"] = functools.partial(add, shape, name)
    if args.core and args.only is None:
        rows[LAPLACIAN] = laplacian
        rows[f"{shapes[1]} bfloat16"] = functools.partial(add, shapes[1], "bfloat16")
    return rows


def main() -> int:
    """The number of rows that failed; 2 where there is no GPU."""
    parser = options.parser(__doc__, seconds=0.3)
    parser.add_argument("--core", action="store_true", help="six shapes, steps alone, no peers")
    parser.add_argument("--quick", action="store_true", help="four shapes, no peers")
    parser.add_argument("--only", help="shapes that contain this text")
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLPs")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    args = parser.parse_args()
    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("bench/gpu.py: torch sees no CUDA GPU here; run it on a machine with one")
        return 2
    if args.quick or args.core:
        args.no_peers, args.seconds = True, min(args.seconds, 0.1)
    if args.rehearse:
        args.no_peers, args.seconds = True, 0.0
    info = machine_info.collect() | machine_info.gpu()
    print(json.dumps(info))
    fresh = {"machine": info, "gemm_flops_per_second": {}, "rows": []}
    result = gpu_rows.resumed(args) or fresh
    return min(1, gpu_rows.run(args, result, rows_of(args, result)))


if __name__ == "__main__":
    raise SystemExit(main())
