"""Training steps and forwards on a GPU, kan_fast and its peers over the same-parameter MLP.

    python bench/gpu.py [--quick] [--seconds 0.3] [--only 512-512] [--no-peers] [--json FILE]

Precisions: float32 "highest" and "high", bfloat16 by autocast, for everyone alike. The MLP runs as
it is, in a CUDA graph and under torch.compile. Rates are of the dense operations, beside the rate
of a large GEMM in the same precision.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics

import gpu_timing
import machine_info
import options
import peers
import pinn
import timing
import torch
from shapes import GPU, GPU_WIDE, Shape
from torch import nn

import kan_fast
from kan_fast import envs, machine
from kan_fast.baselines import kan_parameters, mlp, same_parameter_widths

QUICK = (GPU_WIDE[0], GPU[4], GPU[9], GPU[10])
PRECISIONS = ("highest", "high", "bfloat16")


@contextlib.contextmanager
def precision(name: str):
    """Everyone's precision: of float32 products, or autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if name == "bfloat16" else name)
    with torch.autocast("cuda", torch.bfloat16, enabled=name == "bfloat16"):
        yield
    torch.set_float32_matmul_precision(before)


def entrants(shape: Shape, with_peers: bool) -> dict[str, nn.Module]:
    """The models of a shape on the GPU; the same-parameter MLP first."""
    layout = (shape.widths, shape.grid_size, shape.spline_order)
    found = peers.ours(*layout)
    found["compiled mlp"] = torch.compile(mlp(same_parameter_widths(*layout)))
    found["equal-width mlp"] = mlp(shape.widths)
    if with_peers:
        found |= peers.models(*layout, compiled=True)
    return {name: model.cuda() for name, model in found.items()}


def on_backend(name: str, run: gpu_timing.Run) -> gpu_timing.Run:
    """The same with every layer asked to run on a backend."""

    def asked() -> None:
        before, envs.BACKEND = envs.BACKEND, name
        try:
            run()
        finally:
            envs.BACKEND = before

    return asked


def works(runs: dict[str, gpu_timing.Run], shape: Shape) -> dict[str, gpu_timing.Run]:
    """Those that get through a run; out of memory is a finding, too."""
    found = {}
    for name, run in runs.items():
        try:
            run()
            torch.cuda.synchronize()
            found[name] = run
        except torch.OutOfMemoryError:
            print(f"{name} runs out of memory on {shape}")
        except Exception as error:  # a peer's own trouble; ours must not be hidden
            if name.startswith(("kan_fast", "triton", "cuda")):
                raise
            print(f"{name} is left out of {shape}: {type(error).__name__}: {error}")
    return found


def measure(shape: Shape, name: str, args: argparse.Namespace) -> dict:
    """Everything about a shape in a precision."""
    torch.manual_seed(0)
    x = shape.inputs().cuda().requires_grad_()
    models = entrants(shape, not args.no_peers)
    row: dict = {"shape": str(shape), "precision": name}
    operations = 2 * shape.rows * kan_parameters(shape.widths, shape.grid_size, shape.spline_order)
    with precision(name):
        for kind, run_of, times in (("step", timing.step, 3), ("forward", timing.forward, 1)):
            runs = {n: functools.partial(run_of, model, x) for n, model in models.items()}
            if machine.facts().cuda:
                runs["cuda kan_fast"] = on_backend("cuda", runs["kan_fast"])
            runs = works(runs, shape)
            if kind == "step":
                row["launches"] = {
                    n: sum(gpu_timing.launches(runs[n]).values()) for n in ("mlp", "kan_fast")
                }
                row["kernels"] = gpu_timing.launches(runs["kan_fast"])
                row["peak_bytes"] = {n: gpu_timing.peak_bytes(run) for n, run in runs.items()}
                for n in ("mlp", "kan_fast", "cuda kan_fast"):
                    if n in runs:
                        runs[f"{n}, graph"] = gpu_timing.graphed(runs[n])
            taken = gpu_timing.interleaved(runs, args.seconds)
            row[kind] = {
                "seconds": {n: statistics.median(t) for n, t in taken.items()},
                "over_mlp": {
                    n: timing.ratio(t, taken["mlp"]) for n, t in taken.items() if n != "mlp"
                },
                "flops_per_second": times * operations / statistics.median(taken["kan_fast"]),
            }
    return row


def second_derivatives(args: argparse.Namespace) -> dict:
    """The loss in a Laplacian, [2, 8, 8, 8, 2] over the tanh MLP with as many parameters."""
    points = (torch.rand(1000, 2) * 1.9 - 0.95).cuda()
    widths = (2, 8, 8, 8, 2)
    models = {"mlp": pinn.tanh_mlp(2), "kan_fast": kan_fast.KAN(widths, pinn.GRID_SIZE)}
    if not args.no_peers:
        models |= peers.models(widths, pinn.GRID_SIZE)
    runs = {n: functools.partial(pinn.step, model.cuda(), points) for n, model in models.items()}
    if machine.facts().cuda:
        runs["cuda kan_fast"] = on_backend("cuda", runs["kan_fast"])
    runs = works(runs, Shape(1000, widths, pinn.GRID_SIZE))
    for n in ("mlp", "kan_fast", *(["cuda kan_fast"] if "cuda kan_fast" in runs else [])):
        runs[f"{n}, graph"] = gpu_timing.graphed(runs[n])
    taken = gpu_timing.interleaved(runs, args.seconds)
    return {
        "seconds": {n: statistics.median(t) for n, t in taken.items()},
        "over_mlp": {n: timing.ratio(t, taken["mlp"]) for n, t in taken.items() if n != "mlp"},
        "launches": {n: sum(gpu_timing.launches(runs[n]).values()) for n in ("mlp", "kan_fast")},
    }


def _say(row: dict, rates: dict[str, float]) -> None:
    step = row["step"]
    ours = step["over_mlp"]["kan_fast"]
    share = step["flops_per_second"] / rates[row["precision"]]
    cuda = step["over_mlp"].get("cuda kan_fast", {"median": float("nan")})
    print(
        f"{row['shape']:32s} {row['precision']:9s} step {step['seconds']['kan_fast'] * 1e3:8.3f} ms"
        f"  over MLP {ours['median']:5.2f} [{ours['low']:.2f} {ours['high']:.2f}]"
        f"  CUDA C++ {cuda['median']:5.2f}"
        f"  forward {row['forward']['over_mlp']['kan_fast']['median']:5.2f}"
        f"  of GEMM rate {share:4.0%}  launches {row['launches']['kan_fast']}",
        flush=True,
    )


def main() -> int:
    parser = options.parser(__doc__, seconds=0.3)
    parser.add_argument("--quick", action="store_true", help="four shapes, no peers")
    parser.add_argument("--only", help="shapes that contain this text")
    parser.add_argument("--no-peers", action="store_true", help="only kan_fast and the MLPs")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/gpu.py: torch sees no CUDA GPU here; run it on a machine with one")
        return 2
    if args.quick:
        args.no_peers, args.seconds = True, min(args.seconds, 0.1)
    info = machine_info.collect() | machine_info.gpu()
    print(json.dumps(info))
    rates = {}
    for name in PRECISIONS:
        with precision(name):
            dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
            rates[name] = gpu_timing.gemm_rate(dtype)
            print(f"GEMM, {name}: {rates[name] / 1e12:.0f} TFLOP/s")
    result = {"machine": info, "gemm_flops_per_second": rates, "rows": []}
    for shape in QUICK if args.quick else GPU:
        if args.only and args.only not in str(shape):
            continue
        for name in PRECISIONS:
            row = measure(shape, name, args)
            _say(row, rates)
            result["rows"].append(row)
            options.save(args, result)  # what there is, should a later shape fail
            torch.cuda.empty_cache()
    result["second_derivatives"] = second_derivatives(args)
    for n, r in result["second_derivatives"]["over_mlp"].items():
        spread = f"[{r['low']:.2f} {r['high']:.2f}]"
        print(f"loss in the Laplacian, {n} over MLP {r['median']:.2f} {spread}")
    options.save(args, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
