"""Compiles every Triton kernel and every shipped tile without a GPU, and judges the machine code.

    python bench/aot.py --check [--arch 80 90 100] [--json FILE]

A tile passes when it spills no register, its shared memory fits the architecture, its products are
on the tensor cores (HGMMA on sm_90, HMMA on sm_80; DMMA for float64) and the assembler need not
serialise them. Needs triton alone, no torch, so that several versions of Triton can be asked in
turn; they differ.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine_code import output, tool

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "kan_fast" / "backends" / "triton" / "tiles"
#: bytes of shared memory that a block may have
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
#: the instructions that multiply matrices; on sm_100 tiles of fewer than 64 rows take the older
#: ones, and Triton multiplies float64 without tensor cores
PRODUCTS = {
    80: {"ieee": {"DMMA"}, "": {"HMMA"}},
    90: {"ieee": {"DMMA"}, "": {"HGMMA"}},
    100: {"ieee": set(), "": {"UTCHMMA", "HMMA"}},
}
SILU, CUBIC, GRID = 0, 3, 5
#: kernels that have tiles, and the option that they are launched with
TILED = ("contract_out", "contract_in_weight")
MAX_REGISTERS = 255


def _import_triton() -> Any:
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise SystemExit("aot: unset TRITON_INTERPRET, which replaces the compiler")
    sys.path.insert(0, str(ROOT / "kernels"))
    import triton

    return triton


def _basis(order: int = CUBIC, grid_size: int = GRID) -> dict[str, int]:
    knots = grid_size + 2 * order + 1
    return dict(
        ORDER=order,
        NUM_BASIS=grid_size + order,
        STEPS=(knots - 1).bit_length() - 1,
        ACTIVATION=SILU,
    )


def _numbers(precision: str) -> dict[str, Any]:
    import triton.language as tl

    coordinate = tl.float64 if precision == "ieee" else tl.float32
    return dict(PRECISION=precision, COORDINATE=coordinate)


def _tensors(precision: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, "*fp64" if precision == "ieee" else "*fp32")


def out_job(precision: str, tile: dict[str, int], **variant: Any) -> dict[str, Any]:
    """`contract_out` as the launch in kan_fast/backends/triton/spline.py has it."""
    width = variant.pop("width", 8)
    constants = _basis(variant.pop("order", CUBIC), variant.pop("grid_size", GRID))
    constants |= dict(DERIVATIVE=0, HAS_V=False, HAS_SCALER=True, HAS_BASE=True)
    constants |= dict(
        BLOCK_R=tile["rows"], BLOCK_O=tile["outputs"], BLOCK_I=tile["columns"] // width,
        WIDTH=width, BASE_I=tile["columns"], STAGES=tile["stages"], x_column=1, v_column=1,
    )  # fmt: skip
    names = ("x", "v", "knots", "weight", "scaler", "base", "y")
    integers = ("x_row", "v_row", "num_rows", "in_features", "out_features")
    return dict(
        kernel="contract_out.contract_out", precision=precision,
        tensors=_tensors(precision, *names), integers=integers,
        constants=constants | variant, warps=tile["warps"],
        label="{rows}x{outputs} columns {columns}".format(**tile),
    )  # fmt: skip


def in_weight_job(precision: str, tile: dict[str, int], **variant: Any) -> dict[str, Any]:
    """`contract_in_weight`, the whole backward."""
    width = variant.pop("width", 8)
    constants = _basis(variant.pop("order", CUBIC), variant.pop("grid_size", GRID))
    constants |= dict(DERIVATIVE_IN=1, DERIVATIVE_WEIGHT=0, HAS_V=False, HAS_SCALER=True)
    constants |= dict(HAS_BASE=True, NEED_IN=True, NEED_SPLINE=True, NEED_BASE=True)
    constants |= dict(
        IN_R=tile["in_rows"], IN_I=tile["in_columns"] // width, IN_K=tile["in_step"],
        IN_STAGES=tile["in_stages"], WEIGHT_O=tile["weight_outputs"],
        WEIGHT_I=tile["weight_columns"] // width, WEIGHT_K=tile["weight_step"], WIDTH=width,
        x_column=1, u_column=1, v_column=1,
    )  # fmt: skip
    names = "x u v knots weight scaler base z spline_sum base_sum".split()
    integers = (
        "x_row", "u_row", "v_row", "num_rows", "in_features", "out_features",
        "rows_a_split", "num_splits",
    )  # fmt: skip
    label = (
        "{in_rows}x{in_columns}/{in_step} {weight_outputs}x{weight_columns}/{weight_step}"
    ).format(**tile)
    return dict(
        kernel="contract_in_weight.contract_in_weight", precision=precision,
        tensors=_tensors(precision, *names), integers=integers,
        constants=constants | variant, warps=tile["warps"], label=label,
    )  # fmt: skip


def other_jobs() -> list[dict[str, Any]]:
    """The kernels that have one tile."""
    basis = _basis(grid_size=100)
    gather = dict(HAS_BASE=True, BLOCK_R=32, BLOCK_O=32, x_column=1, **basis)
    sizes = ("x_row", "num_rows", "in_features", "out_features")
    knots = dict(FIRST_KNOTS=12, FIRST_STEPS=3, SECOND_KNOTS=12, SECOND_STEPS=3)
    two = dict(ORDER=CUBIC, ACTIVATION=SILU, x_column=1, **knots)
    found = []

    def add(kernel: str, precision: str, names: str, integers: tuple[str, ...], **constants: Any):
        found.append(
            dict(
                kernel=kernel,
                precision=precision,
                tensors=_tensors(precision, *names.split()),
                integers=integers,
                constants=constants,
                warps=4,
                label="",
            )  # fmt: skip
        )

    for precision in ("tf32x3", "ieee"):
        coordinate = _numbers(precision)["COORDINATE"]
        add(
            "gather.pack", precision, "weight scaler base packed", ("in_features", "out_features"),
            NUM_BASIS=103, PADDED=128, HAS_SCALER=True, HAS_BASE=True, BLOCK_O=32,
        )  # fmt: skip
        add(
            "gather.gather_out", precision, "x v knots packed y", (*sizes, "v_row"),
            **gather, HAS_V=True, v_column=1, DERIVATIVE=0, COORDINATE=coordinate,
        )  # fmt: skip
        add(
            "gather.gather_in", precision, "x u knots packed z", (*sizes, "u_row"),
            **gather, u_column=1, DERIVATIVE=1, COORDINATE=coordinate,
        )  # fmt: skip
        add(
            "contract_in_weight.unfold", precision,
            "spline_sum base_sum weight scaler grad_weight grad_scaler grad_base",
            ("num_edges", "num_splits"), NUM_BASIS=8, PADDED=8, HAS_SCALER=True, NEED_WEIGHT=True,
            NEED_SCALER=True, NEED_BASE=True, COORDINATE=coordinate, BLOCK_E=64,
        )  # fmt: skip
    for family, basis_size in ((0, 8), (1, 9), (2, 1)):
        full = dict(
            FAMILY=family, ACTIVATION=SILU, NUM_BASIS=basis_size, INV_WIDTH=1.75, BLOCK=256,
            x_column=1,
        )  # fmt: skip
        sizes = ("x_row", "phi_row", "num_pairs", "in_features")
        add(
            "full_basis.full_values", "float32", "x v centers phi", (*sizes, "v_row"),
            **full, v_column=1, DERIVATIVE=0, HAS_V=True,
        )  # fmt: skip
        add(
            "full_basis.full_fold", "float32", "x phi centers z", (*sizes, "z_row"),
            **full, DERIVATIVE=2,
        )  # fmt: skip
    add(
        "gram.gram", "float32", "x first_knots second_knots", ("x_row", "num_rows", "in_features",
        "rows_a_split"), **two, BLOCK_R=32, BLOCK_G=16,
    )  # fmt: skip
    found[-1]["tensors"]["parts"] = "*fp64"
    add(
        "gram.gram_gradient", "float32", "x first_knots second_knots z",
        ("x_row", "num_rows", "in_features"), **two, LEFT=1, RIGHT=0, BLOCK_R=128,
    )  # fmt: skip
    found[-1]["tensors"]["cotangent"] = "*fp64"
    return found


def jobs(arch: int) -> list[dict[str, Any]]:
    """Everything that is shipped for an architecture, and variants of the smallest tiles."""
    table = json.loads((TABLES / f"sm_{arch}.json").read_text())
    found = other_jobs()
    for kind, make in (("out", out_job), ("in_weight", in_weight_job)):
        for precision, tiles in table[kind].items():
            for tile in tiles:
                found.append(make(precision, tile))
            last = tiles[-1]
            found.append(make(precision, last, width=4, grid_size=1))
            found.append(make(precision, last, grid_size=20))
            # second derivatives, as a physics-informed loss takes them
            if kind == "out":
                found.append(make(precision, last, DERIVATIVE=2, HAS_V=True))
            else:
                found.append(
                    make(precision, last, DERIVATIVE_IN=2, DERIVATIVE_WEIGHT=1, HAS_V=True)
                )
        for order in (1, 2, 4, 5):
            found.append(make("tf32x3", table[kind]["tf32x3"][-1], order=order))
        # sizes of one are constants to Triton's compiler
        found.append(make("tf32x3", table[kind]["tf32x3"][-1], in_features=1, out_features=1))
    for job in found:
        job["arch"] = arch
    return found


def mnemonics(sass: str) -> collections.Counter:
    """How often each instruction occurs."""
    line = re.compile(
        r"^\s+(?:/\*[0-9a-f]+\*/)?\s*(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_]*)(?:\.[A-Z0-9_.]+)?\b",
        re.M,
    )
    return collections.Counter(m.group(1) for m in line.finditer(sass))


def compiled(job: dict[str, Any], multiples: bool = True) -> Any:
    """A kernel as Triton compiles it; `multiples` of 16 are pointers, and strides and sizes but for
    the batch, which is never specialised."""
    triton = _import_triton()
    import importlib

    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, name = job["kernel"].split(".")
    kernel = getattr(importlib.import_module(f"triton_jit.{module}"), name)
    constants = dict(job["constants"])
    needed = set(kernel.arg_names)
    constants |= {
        k: v for k, v in _numbers(job["precision"]).items() if k in needed - set(constants)
    }
    divisible = {*job["tensors"], "x_row", "u_row", "v_row", "in_features", "out_features"}
    types = dict(job["tensors"]) | dict.fromkeys(job["integers"], "i32")
    types |= dict.fromkeys(constants, "constexpr")
    signature = {n: types[n] for n in kernel.arg_names}
    position = kernel.arg_names.index
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(position(n),): value for n, value in constants.items()},
        attrs={
            (position(n),): [["tt.divisibility", 16]]
            for n in divisible & set(signature)
            if multiples and signature[n] != "constexpr"
        },
    )
    target = GPUTarget("cuda", job["arch"], 32)
    options = dict(num_warps=job["warps"], num_stages=1)
    if name in TILED:
        options["maxnreg"] = MAX_REGISTERS
    return triton.compile(source, target=target, options=options)


def compile_job(job: dict[str, Any]) -> dict[str, Any]:
    """Registers, shared memory, spills and instructions of one kernel."""
    kernel = compiled(job)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        usage = output(tool("cuobjdump"), "--dump-resource-usage", cubin)
        counts = mnemonics(output(tool("nvdisasm"), "-c", cubin))
        serial = job["arch"] == 90 and _serialised(tool("ptxas"), kernel.asm["ptx"], folder)
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    return dict(
        kernel=job["kernel"].split(".")[1], arch=job["arch"], precision=job["precision"],
        tile=job["label"], variant=variant_of(job), warps=job["warps"],
        registers=registers, stack=stack, shared_memory=kernel.metadata.shared,
        spills=counts["LDL"] + counts["STL"], serialised=serial, instructions=sum(counts.values()),
        products={n: counts[n] for n in ("UTCHMMA", "HGMMA", "HMMA", "DMMA") if counts[n]},
    )  # fmt: skip


def _serialised(ptxas: str, ptx: str, folder: str) -> bool:
    """Whether the assembler makes every product of Hopper's wait for the one before (C7510 and
    the like), which costs most of their speed."""
    source = Path(folder) / "kernel.ptx"
    source.write_text(ptx)
    command = [ptxas, "-arch=sm_90a", "-v", source, "-o", source.with_suffix(".out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return "wgmma.mma_async instructions are serialized" in done.stderr


def variant_of(job: dict[str, Any]) -> str:
    """What is unusual about a job, in a few letters."""
    c = job["constants"]
    words = [f"k{c['ORDER']}"] if c.get("ORDER", CUBIC) != CUBIC else []
    if "NUM_BASIS" in c and c.get("ORDER", CUBIC) == CUBIC and c["NUM_BASIS"] != GRID + CUBIC:
        words.append(f"K{c['NUM_BASIS']}")
    derivative = max(c.get("DERIVATIVE", 0), c.get("DERIVATIVE_IN", 1) - 1)
    words += [f"d{derivative}"] * (derivative > 0) + ["v"] * bool(c.get("HAS_V"))
    return " ".join(words + ["1x1"] * ("in_features" in c))


def faults(found: dict[str, Any]) -> list[str]:
    """What keeps a kernel from being shipped, in sentences."""
    wrong = []
    if found["spills"] or found["stack"] > 0:
        wrong.append(f"spills {found['spills']} registers, stack of {found['stack']} bytes")
    if found["serialised"]:
        wrong.append("has products that wait for one another")
    limit = SHARED_MEMORY[found["arch"]]
    if found["shared_memory"] > limit:
        wrong.append(f"takes {found['shared_memory']} bytes of shared memory, {limit} are there")
    if found["kernel"] in TILED:
        names = PRODUCTS[found["arch"]]
        wanted = names.get(found["precision"], names[""])
        if wanted and not wanted & found["products"].keys():
            wrong.append(f"has no {' or '.join(wanted)}, only {found['products'] or 'scalars'}")
    return wrong


def _guarded(job: dict[str, Any]) -> dict[str, Any]:
    try:
        found = compile_job(job)
        return found | dict(faults=faults(found))
    except Exception as error:  # whatever the compiler raises is the finding
        text = f"{type(error).__name__}: {error}".strip().splitlines()
        return dict(
            kernel=job["kernel"], arch=job["arch"], precision=job["precision"], tile=job["label"],
            variant=variant_of(job), faults=[f"does not compile: {text[0]} {text[-1]}"],
        )  # fmt: skip


def line_of(found: dict[str, Any]) -> str:
    """One row of the table."""
    head = "sm_{arch:<4}{precision:8}{kernel:20}{tile:32}{variant:8}".format(**found)
    if "registers" not in found:
        return head
    products = " ".join(f"{n} {k}" for k, n in found["products"].items())
    return head + (
        "{warps:>3} warps {registers:>4} registers {shared_memory:>7} B shared "
        "{spills:>4} spills {instructions:>6} instructions  ".format(**found)
        + products
    )


def run(all_jobs: list[dict[str, Any]], processes: int) -> list[dict[str, Any]]:
    """Compiles all; prints as it goes."""
    results = []
    # processes of their own: an abort of the compiler must not take the others along
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        for found in pool.imap(_guarded, all_jobs):
            results.append(found)
            print(line_of(found), flush=True)
            for fault in found["faults"]:
                print(f"  FAULT {fault}", flush=True)
    return results


def main() -> int:
    """Prints the table; with --check, the exit code is 1 when a kernel has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90, 100])
    parser.add_argument("--check", action="store_true", help="fail when a kernel has a fault")
    parser.add_argument("--json", type=Path, help="write the findings here")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    triton = _import_triton()
    print(f"triton {triton.__version__}; compiled, not run", flush=True)
    results = run([job for arch in args.arch for job in jobs(arch)], args.processes)
    if args.json:
        rows = ",\n".join("  " + json.dumps(found) for found in results)
        head = f'{{"triton": "{triton.__version__}", "note": "compiled, not run", "kernels": [\n'
        args.json.write_text(f"{head}{rows}\n]}}\n")
    wrong = [r for r in results if r["faults"]]
    print(f"{len(results) - len(wrong)} passed, {len(wrong)} failed")
    return int(bool(wrong) and args.check)


if __name__ == "__main__":
    raise SystemExit(main())
