"""The kernels alone, layer by layer, against the measured GEMM rate and the floor.

    python bench/kernels.py [--suite cpu|users] [--seconds 0.5] [--threads N] [--only 128-128]
        [--json FILE]

Each distinct layer of a suite, forward (`out`) and backward (`in` and `weight` in one call), beside
the matrix products of a linear layer with as many parameters. Local support needs order + 2 of the
num_basis + 1 terms, so the floor is that share of the products' time; "of floor" is measured time
over floor, and 1 cannot be beaten by arithmetic alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import machine_info
import timing
import torch
from shapes import SUITES
from torch import Tensor

import kan_fast
from kan_fast.backends import native
from kan_fast.functional import basis_of


def runs(rows: int, i: int, o: int, grid_size: int, k: int) -> dict:
    """Forward and backward of one layer, and the products of a linear layer of the same size."""
    layer = kan_fast.KANLinear(i, o, grid_size, k).requires_grad_(False)
    weights = (layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight)
    basis = basis_of(k, "silu")
    x = (torch.rand(rows, i) * 2 - 1) * 0.95
    u = torch.randn(rows, o)
    # [rows, i] x [i, o * terms] has the arithmetic of a linear layer with as many parameters
    columns = o * (grid_size + k + 1)
    wide, wide_u = torch.randn(i, columns), torch.randn(rows, columns)
    y, z, s = torch.empty(rows, columns), torch.empty(rows, i), torch.empty(i, columns)

    def products() -> tuple[Tensor, Tensor]:
        return torch.mm(wide_u, wide.t(), out=z), torch.mm(x.t(), wide_u, out=s)

    return {
        "forward": lambda: native.out(x, None, *weights, basis, 0),
        "forward gemm": lambda: torch.mm(x, wide, out=y),
        "backward": lambda: native.in_weight(x, u, None, *weights, basis, 1, 0, (True,) * 4),
        "backward gemm": products,
    }


def row_of(rows: int, i: int, o: int, grid_size: int, k: int, seconds: float) -> dict:
    times = timing.interleaved(runs(rows, i, o, grid_size, k), seconds, "forward gemm")
    terms = grid_size + k + 1
    row: dict = {"layer": f"{rows} {i}-{o} G{grid_size}", "floor_over_gemm": (k + 2) / terms}
    for name, products in (("forward", 1), ("backward", 2)):
        # median of per-round ratios: both sides saw the same machine
        over = timing.ratio(times[name], times[f"{name} gemm"])
        time, gemm = (statistics.median(times[n]) for n in (name, f"{name} gemm"))
        useful = 2 * products * rows * i * o * (k + 2)
        row[name] = {
            "seconds": time,
            "gflops": useful / time / 1e9,
            "gemm_gflops": 2 * products * rows * i * o * terms / gemm / 1e9,
            "over_gemm": over,
            "over_floor": over["median"] / row["floor_over_gemm"],
            "ns_per_row_and_input": time / (rows * i) * 1e9,
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    parser.add_argument("--seconds", type=float, default=0.5, help="per entrant, on average")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--only", help="layers that contain this text")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    info = machine_info.collect()
    print(json.dumps(info))
    torch.manual_seed(0)
    layers = dict.fromkeys(
        (s.rows, i, o, s.grid_size, s.spline_order)
        for s in SUITES[args.suite]
        for i, o in zip(s.widths, s.widths[1:], strict=False)
    )
    rows = []
    for layer in layers:
        name = f"{layer[0]} {layer[1]}-{layer[2]} G{layer[3]}"
        if args.only and args.only not in name:
            continue
        rows.append(row_of(*layer, args.seconds))
        cells = "   ".join(
            f"{n} {r['seconds'] * 1e3:8.3f} ms {r['gflops']:6.1f} GFLOP/s "
            f"(gemm {r['gemm_gflops']:6.1f}) of floor {r['over_floor']:5.2f}"
            for n, r in rows[-1].items()
            if isinstance(r, dict)
        )
        print(f"{name:20s} {cells}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": info, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
