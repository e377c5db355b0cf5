"""The kernels alone, layer by layer, against the measured GEMM rate and the floor.

    python bench/kernels.py [--device cpu|cuda] [--suite cpu|users|gpu|gpu-wide] [--seconds 0.5]
        [--threads N] [--only 128-128] [--json FILE]

Each distinct layer of a suite, forward (`out`) and backward (`in` and `weight` in one call), beside
the matrix products of a linear layer with as many parameters. Local support needs order + 2 of the
num_basis + 1 terms, so the floor is that share of the products' time; "of floor" is measured time
over floor, and 1 cannot be beaten by arithmetic alone. On a GPU: see gpu_kernels.py.
"""

from __future__ import annotations

import statistics

import options
import timing
import torch
from shapes import SUITES, Shape
from torch import Tensor

import kan_fast
from kan_fast.backends.cpu.spline import NativeKernels
from kan_fast.backends.layer import Layer
from kan_fast.ops.plan import basis_of


def runs(shape: Shape) -> dict:
    """Forward and backward of one layer, and the products of a linear layer of the same size."""
    (i, o), rows, k = shape.widths, shape.rows, shape.spline_order
    layer = kan_fast.KANLinear(i, o, shape.grid_size, k).requires_grad_(False)
    weights = (layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight)
    given, native = Layer(*weights, basis_of(k, "silu")), NativeKernels()
    x = shape.inputs()
    u = torch.randn(rows, o)
    # [rows, i] x [i, o * terms] has the arithmetic of a linear layer with as many parameters
    columns = o * (shape.grid_size + k + 1)
    wide, wide_u = torch.randn(i, columns), torch.randn(rows, columns)
    y, z, s = torch.empty(rows, columns), torch.empty(rows, i), torch.empty(i, columns)

    def products() -> tuple[Tensor, Tensor]:
        return torch.mm(wide_u, wide.t(), out=z), torch.mm(x.t(), wide_u, out=s)

    return {
        "forward": lambda: native.out(x, None, given, 0),
        "forward gemm": lambda: torch.mm(x, wide, out=y),
        "backward": lambda: native.in_weight(x, u, None, given, 1, 0, (True,) * 4),
        "backward gemm": products,
    }


def row_of(shape: Shape, seconds: float) -> dict:
    times = timing.interleaved(runs(shape), seconds, "forward gemm")
    (i, o), k = shape.widths, shape.spline_order
    edges = shape.rows * i * o
    row: dict = {"layer": str(shape), "floor_over_gemm": shape.floor}
    for name, products in (("forward", 1), ("backward", 2)):
        # median of per-round ratios: both sides saw the same machine
        over = timing.ratio(times[name], times[f"{name} gemm"])
        time, gemm = (statistics.median(times[n]) for n in (name, f"{name} gemm"))
        useful = 2 * products * edges * (k + 2)
        row[name] = {
            "seconds": time,
            "gflops": useful / time / 1e9,
            "gemm_gflops": useful / shape.floor / gemm / 1e9,
            "over_gemm": over,
            "over_floor": over["median"] / shape.floor,
            "ns_per_row_and_input": time / (shape.rows * i) * 1e9,
        }
    return row


def main() -> int:
    parser = options.parser(__doc__, seconds=0.5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    parser.add_argument("--only", help="layers that contain this text")
    parser.add_argument("--rehearse", action="store_true", help="tiny, of --device cuda on the CPU")
    args, info = options.start(parser)
    layers = list(dict.fromkeys(layer for shape in SUITES[args.suite] for layer in shape.layers()))
    layers = [layer for layer in layers if args.only is None or args.only in str(layer)]
    if args.device == "cuda":
        import gpu_kernels

        return gpu_kernels.main(args, info, layers)
    rows = []
    for layer in layers:
        rows.append(row_of(layer, args.seconds))
        cells = "   ".join(
            f"{n} {r['seconds'] * 1e3:8.3f} ms {r['gflops']:6.1f} GFLOP/s "
            f"(gemm {r['gemm_gflops']:6.1f}) of floor {r['over_floor']:5.2f}"
            for n, r in rows[-1].items()
            if isinstance(r, dict)
        )
        print(f"{layer!s:20s} {cells}", flush=True)
    options.save(args, {"machine": info, "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
