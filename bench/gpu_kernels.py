"""What `bench/kernels.py --device cuda` runs: every GPU kernel of a layer, beside the GEMM.

Rates count the products of a dense layer with as many parameters. Ceilings are measured: a large
GEMM in the same precision, and a copy. Registers, shared memory and occupancy are the profiler's.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Iterator

import gpu
import gpu_rows
import gpu_timing
import machine_info
import timing
import torch
from gpu_timing import DEVICE
from shapes import Shape

import kan_fast
from kan_fast import machine
from kan_fast.backends.base import Kernels
from kan_fast.backends.cuda.spline import CudaKernels
from kan_fast.backends.layer import Layer
from kan_fast.backends.triton.spline import TritonKernels
from kan_fast.ops.plan import basis_of

#: of torch, and the products that the kernels make of it
PRODUCTS = {"highest": "tf32x3", "high": "tf32", "bfloat16": "bf16"}


def variants(product: str) -> Iterator[tuple[str, Kernels]]:
    """Name and kernels."""
    yield "triton", TritonKernels(product, None)
    if not (machine.facts().cuda or (DEVICE == "cpu" and machine.facts().cuda_emulated)):
        return
    yield "cuda gather", CudaKernels(None)
    for sparse in (False, True):
        for wgmma in (False, True):
            name = "cuda " + ("wgmma" if wgmma else "mma") + (" sparse" if sparse else "")
            yield name, CudaKernels(product, sparse, wgmma)


def runs(shape: Shape, precision: str) -> dict[str, dict[str, gpu_timing.Run]]:
    """Forward and backward of a layer by every kernel, and the GEMMs of as many parameters."""
    (i, o), rows, k = shape.widths, shape.rows, shape.spline_order
    layer = kan_fast.KANLinear(i, o, shape.grid_size, k).requires_grad_(False).to(DEVICE)
    weights = (layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight)
    given = Layer(*weights, basis_of(k, "silu"))
    x, u = shape.inputs().to(DEVICE), torch.randn(rows, o, device=DEVICE)
    forward, backward = {}, {}
    for name, kernels in variants(PRODUCTS[precision]):

        def out(kernels: Kernels = kernels) -> object:
            return kernels.out(x, None, given, 0)

        def in_weight(kernels: Kernels = kernels) -> object:
            return kernels.in_weight(x, u, None, given, 1, 0, (True,) * 4)

        forward[name] = out
        if name in ("triton", "cuda gather", "cuda mma"):  # the others are forwards
            backward[name] = in_weight
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    columns = o * (shape.grid_size + k + 1)
    narrow, wide = x.to(dtype), torch.randn(i, columns, device=DEVICE, dtype=dtype)
    wide_u = torch.randn(rows, columns, device=DEVICE, dtype=dtype)
    forward["gemm"] = lambda: torch.mm(narrow, wide)
    backward["gemm"] = lambda: (torch.mm(wide_u, wide.t()), torch.mm(narrow.t(), wide_u))
    return {"forward": forward, "backward": backward}


def row_of(shape: Shape, precision: str, seconds: float, ceilings: dict) -> dict:
    """Every kernel's figures."""
    row: dict = {"layer": str(shape), "precision": precision, "failed": {}}
    (i, o), functions = shape.widths, shape.grid_size + shape.spline_order + 1
    for kind, entrants in runs(shape, precision).items():
        passes = 1 if kind == "forward" else 2
        work = 2 * passes * shape.rows * i * o * functions
        moved = 4 * passes * (shape.rows * (i + o) + i * o * (functions + 1))
        with gpu.precision(precision):
            entrants = gpu.works(entrants, row["failed"])
            times = gpu_timing.interleaved(entrants, seconds)
            row[kind] = {}
            for name, taken in times.items():
                time = statistics.median(taken)
                row[kind][name] = {
                    "seconds": time,
                    "over_gemm": timing.ratio(taken, times["gemm"]),
                    "tflops": work / time / 1e12,
                    "of_gemm_ceiling": work / time / ceilings[precision],
                    "bytes_per_second": moved / time,
                    "of_copy_ceiling": moved / time / ceilings["copy"],
                    "kernels": [],
                }
                with gpu_rows.alone(row["failed"], f"profiler of {name}"):
                    row[kind][name]["kernels"] = gpu_timing.kernels(entrants[name])
    return row


def _say(row: dict) -> None:
    for kind in ("forward", "backward"):
        for name, at in row[kind].items():
            longest = max(at["kernels"], key=lambda k: k["microseconds"], default={})
            print(
                f"{row['layer']:24s} {row['precision']:8s} {kind:8s} {name:18s}"
                f" {at['seconds'] * 1e6:9.1f} us {at['tflops']:7.1f} TFLOP/s"
                f" ({at['of_gemm_ceiling']:4.0%}) {at['bytes_per_second'] / 1e9:7.0f} GB/s"
                f" ({at['of_copy_ceiling']:4.0%}) over GEMM {at['over_gemm']['median']:5.2f}"
                f"  registers {longest.get('registers')}, occupancy {longest.get('occupancy')}%",
                flush=True,
            )


def main(args: argparse.Namespace, info: dict, layers: list[Shape]) -> int:
    """Prints and saves the figures of every layer; 2 where there is no GPU, 1 where a row fails."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("bench/kernels.py: --device cuda, but torch sees no CUDA GPU here")
        return 2
    if args.rehearse:
        args.seconds, layers = 0.0, [Shape(32, (8, 16), layers[0].grid_size)]
    fresh = {"machine": info | machine_info.gpu(), "ceilings": {}, "rows": []}
    result = gpu_rows.resumed(args) or fresh
    ceilings = result["ceilings"]

    def measure_ceilings() -> None:
        ceilings["copy"] = gpu_timing.copy_rate()
        for name in PRODUCTS:
            with gpu.precision(name):
                dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
                ceilings[name] = gpu_timing.gemm_rate(dtype)
        print(f"ceilings: {ceilings}")

    def add(layer: Shape, name: str) -> None:
        result["rows"].append(row_of(layer, name, args.seconds, ceilings))
        _say(result["rows"][-1])
        if result["rows"][-1]["failed"]:
            raise RuntimeError(str(result["rows"][-1]["failed"]))

    rows = {"ceilings": measure_ceilings}
    for layer in layers:
        rows |= {f"{layer} {name}": functools.partial(add, layer, name) for name in PRODUCTS}
    return min(1, gpu_rows.run(args, result, rows))
