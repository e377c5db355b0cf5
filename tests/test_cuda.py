"""The CUDA C++ kernels: what was built, what the planner does with them, and their tiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cases import make_case
from judge import compare

import kan_fast
from kan_fast import machine
from kan_fast.backends import BACKENDS, cuda
from kan_fast.errors import BackendUnavailable
from kan_fast.functional import plan_for
from kan_fast.planner import choose
from kan_fast.spec import Problem

ARCHITECTURES = {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}


def cuobjdump() -> str | None:
    """NVIDIA's tool, which Triton's wheel brings along."""
    found = shutil.which("cuobjdump")
    if found is None and machine.facts().triton is not None:
        import triton

        inside = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        found = str(inside) if inside.exists() else None
    return found


@pytest.mark.skipif(not machine.facts().cuda, reason="kan_fast was built without nvcc")
@pytest.mark.skipif(cuobjdump() is None, reason="cuobjdump is not installed")
def test_every_kernel_is_there_for_every_architecture_and_keeps_its_registers() -> None:
    command = [cuobjdump(), "--dump-resource-usage", machine.extension().__file__]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels: dict[str, set[str]] = {}
    arch = ""
    for line in printed.splitlines():
        if found := re.search(r"arch = (sm_\d+)", line):
            arch = found[1]
        elif found := re.search(r"Function (\S+):", line):
            kernels.setdefault(arch, set()).add(found[1])
        elif found := re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", line):
            assert found[2] == found[3] == "0", f"{arch} spills: {line}"
    assert set(kernels) == ARCHITECTURES
    # eight orders in each direction and what adds up parts of the rows, for two number types
    assert {len(names) for names in kernels.values()} == {2 * (2 * 8 + 1)}


def test_who_asks_for_them_gets_them() -> None:
    facts = machine.Machine(extension="baseline", cuda=True)
    device = Problem("cuda", "float32", 3, capability=(9, 0))
    asked = Problem("cuda", "float32", 3, capability=(9, 0), asked=True)
    assert choose(asked, facts, BACKENDS, "cuda").backend == "cuda"
    # until they have run on a GPU nobody gets them without asking
    assert choose(device, facts, BACKENDS).backend == "reference"
    assert "have not run on a GPU yet" in cuda.why_not(device, facts)
    assert "8.0 or more, got 7.5" in cuda.why_not(
        Problem("cuda", "float32", 3, capability=(7, 5), asked=True), facts
    )
    assert "without nvcc" in cuda.why_not(asked, machine.Machine(extension="baseline"))
    emulating = machine.Machine(extension="baseline", cuda_emulated=True)
    assert cuda.why_not(Problem("cpu", "float32", 3, asked=True), emulating) is None
    assert "built without" in cuda.why_not(Problem("cpu", "float32", 3), emulating)


def test_a_cpu_tensor_is_refused_in_a_sentence() -> None:
    layer = kan_fast.KANLinear(3, 2)
    x = torch.randn(4, 3)
    with pytest.raises(BackendUnavailable, match=r"cuda was asked for but .*; use backend='auto'"):
        kan_fast.kan_linear(x, layer.grid, layer.spline_weight, backend="cuda")
    assert plan_for(x, layer.spline_weight, 3).backend == "native"


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
def test_sums_over_many_rows_are_split(scaler: bool) -> None:
    case = make_case(5003, 2, 12, scaler=scaler)
    layer, _alive = cuda.layer_numbers(case.x, None, case.knots, *case.parameters(), case.basis)
    parts = machine.extension().cuda_partial_numbers(*layer) / (2 * 12 * 9)
    assert parts == 40  # of at least 128 rows
    compare(case, cuda)


@pytest.mark.parametrize("grid_size", [180, 700])
def test_tiles_shrink_for_large_grids(grid_size: int) -> None:
    compare(make_case(70, 3, 70, grid_size, dtype=torch.float64), cuda)


def test_a_grid_too_large_for_shared_memory_is_refused() -> None:
    case = make_case(3, 1, 1, 4000)
    with pytest.raises(ValueError, match="fit in 96 KB of shared memory"):
        compare(case, cuda)
