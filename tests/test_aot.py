"""The gate of bench/aot.py: it compiles what is launched, and it can say no."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import make_case
from judge import triton

from kan_fast import machine
from kan_fast.backends.triton import gather as triton_gather
from kan_fast.backends.triton import spline as triton_launch

BENCH = Path(__file__).parent.parent / "bench"
sys.path.append(str(BENCH))

import aot  # noqa: E402

GOOD = dict(
    kernel="contract_out", arch=90, precision="tf32", spills=0, stack=0, shared_memory=1000,
    products={"HGMMA": 8}, serialised=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "change, fault",
    [
        ({}, None),
        ({"spills": 3}, "spills 3 registers"),
        ({"stack": 8}, "stack of 8 bytes"),
        ({"serialised": True}, "wait for one another"),
        ({"shared_memory": 228 * 1024}, "232448 are there"),
        ({"products": {"HMMA": 8}}, "has no HGMMA"),
        ({"arch": 80, "products": {"HMMA": 8}}, None),
        ({"arch": 80, "products": {}}, "has no HMMA, only scalars"),
        ({"precision": "ieee"}, "has no DMMA"),
        ({"kernel": "unfold", "products": {}}, None),
    ],
)
def test_faults(change: dict, fault: str | None) -> None:
    found = aot.faults({**GOOD, **change})
    assert (found == []) if fault is None else any(fault in f for f in found)


@pytest.mark.parametrize("arch", sorted(aot.SHARED_MEMORY))
def test_every_shipped_tile_is_compiled(arch: int) -> None:
    table = json.loads((aot.TABLES / f"sm_{arch}.json").read_text())
    jobs = aot.jobs(arch)
    for kind in ("out", "in_weight"):
        count = sum(len(tiles) for tiles in table[kind].values())
        kernel = {"out": "contract_out", "in_weight": "contract_in_weight"}[kind]
        plain = [j for j in jobs if j["kernel"].endswith(f".{kernel}") and not aot.variant_of(j)]
        assert len(plain) == count


class _Recorder:
    """Stands for a kernel and keeps how it is launched."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple, dict]] = []

    def __getitem__(self, grid: tuple[int, ...]):
        assert all(0 < n < 2**31 for n in grid)
        return lambda *args, **kwargs: self.calls.append((args, kwargs))


@pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)
@pytest.mark.parametrize("grid_size", [5, 100])
def test_the_launch_is_what_is_compiled(grid_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("contract_out", "contract_in_weight", "unfold", "pack", "gather_out", "gather_in")
    recorders = {n: _Recorder() for n in names}
    fake = SimpleNamespace(**recorders, dtypes={torch.float32: "float32"})
    for module in (triton_launch, triton_gather):
        monkeypatch.setattr(module, "jit", lambda: fake)
    case = make_case(9, 2, 3, grid_size)
    u = torch.ones(9, 3)
    kernels = triton.kernels(case.spline_weight)
    layer = case.layer()
    kernels.out(case.x, None, layer, 0)
    kernels.in_weight(case.x, u, None, layer, 1, 0, (True, True, True, True))
    jobs = {j["kernel"].split(".")[1]: j for j in aot.jobs(90)}
    launched = {n for n, r in recorders.items() if r.calls}
    assert launched == (
        {"contract_out", "contract_in_weight", "unfold"}
        if grid_size == 5
        else {"pack", "gather_out", "gather_in", "contract_in_weight", "unfold"}
    )
    for name in launched:
        positional, named = recorders[name].calls[0]
        constants = set(jobs[name]["constants"]) - {"x_column", "u_column", "v_column"}
        constants -= {"in_features", "out_features"}  # of the variant with sizes of one
        if name.startswith("contract"):
            constants |= {"PRECISION", "COORDINATE"}
        assert set(named) - {"num_warps", "num_stages", "maxnreg"} == constants, name
        assert named.get("maxnreg") == (aot.MAX_REGISTERS if name in aot.TILED else None)
        strides = sum(c in jobs[name]["constants"] for c in ("x_column", "u_column", "v_column"))
        count = len(jobs[name]["tensors"]) + len(jobs[name]["integers"]) + strides
        assert len(positional) == count, name


@pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)
def test_the_gate_passes_and_fails_on_real_machine_code(tmp_path: Path) -> None:
    program = f"""
import sys, json
sys.path.insert(0, {str(BENCH)!r})
import aot
small = dict(rows=64, outputs=32, columns=32, warps=4, stages=1)
large = dict(rows=128, outputs=256, columns=64, warps=4, stages=1)
jobs = [aot.out_job("tf32", t) | dict(arch=80) for t in (small, large)]
print(json.dumps([aot._guarded(job) for job in jobs]))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    assert small["faults"] == [] and small["products"]["HMMA"] > 0
    assert any("spills" in fault for fault in large["faults"])


#: in a process of its own, as the interpreter replaces the compiler in this one: along the axis of
#: each sum, numbers a thread, threads and warps; and all layouts, of arguments that are multiples
#: of 16 and of others
SUMS = f"""
import sys, json, re
sys.path.insert(0, {str(BENCH)!r})
import aot

def sums(job, multiples):
    text = aot.compiled(job, multiples).asm["ttgir"]
    layouts = dict(re.findall(r"(#\\w+) = (#ttg.*)", text))
    found = []
    reduce = r'"tt.reduce".*?axis = (\\d+).*?: \\(tensor<[^>]*(#\\w+)>'
    for axis, name in re.findall(reduce, text, re.S):
        lists = re.findall(r"(?:PerThread|PerWarp|PerCTA) = \\[([^]]*)", layouts[name])
        found.append([numbers.split(", ")[int(axis)] for numbers in lists] or layouts[name])
    return found, sorted(layouts.values())

tile = json.loads((aot.TABLES / "sm_90.json").read_text())["in_weight"]["tf32x3"][-1]
jobs = [*aot.other_jobs(), aot.in_weight_job("tf32x3", tile)]
named = dict((j["kernel"], j | dict(arch=90)) for j in reversed(jobs))
print(json.dumps([sums(named[sys.argv[1]], multiples) for multiples in (True, False)]))
"""


@pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)
@pytest.mark.parametrize(
    "kernel",
    ["gather.gather_in", "contract_in_weight.unfold", "contract_in_weight.contract_in_weight"],
)
def test_the_order_of_sums_does_not_depend_on_strides(kernel: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SUMS, kernel], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    (sums, layouts), (other_sums, other_layouts) = json.loads(done.stdout.splitlines()[-1])
    assert layouts != other_layouts
    assert sums == other_sums
