"""The gate of bench/aot_cuda.py: what should be there is there, and faults are found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))

import aot_cuda  # noqa: E402
from machine_code import tool  # noqa: E402

BF16, TF32X3 = map(aot_cuda.products().index, ("kBf16", "kTf32x3"))
FENCED = ["BAR.SYNC", "MEMBAR", "ATOMG", "MEMBAR", "BAR.SYNC"]
GOOD = dict(
    arch="80", kernel="GatherOut<3, float>", registers=96, stack=0, local=0, instructions=900,
    products={}, waits=0, around_atomic=[],
)  # fmt: skip
SPARSE = {
    "kernel": f"MmaOut<3, {BF16}, true, WgmmaTile>",
    "products": {"HGMMA.64x128x16.F32.BF16": 1, "HGMMA.SP.64x128x32.F32.BF16": 1},
    "waits": 1,
}
THREE = {
    "kernel": f"MmaOut<3, {TF32X3}, false, TallMmaTile>",
    "products": {"HMMA.1688.F32.TF32": 48},
}


@pytest.mark.parametrize(
    "change, fault",
    [
        ({}, None),
        ({"stack": 8}, "stack of 8 bytes"),
        ({"local": 4}, "4 local"),
        ({"around_atomic": FENCED}, None),
        ({"around_atomic": ["MEMBAR", "BAR.SYNC", *FENCED[2:]]}, "without a fence on both sides"),
        ({"around_atomic": [*FENCED[:3], "BAR.SYNC", "MEMBAR"]}, "without a fence on both sides"),
        (SPARSE, None),
        (SPARSE | {"waits": 2}, "waits 2 times"),
        (SPARSE | {"products": {"HGMMA.64x128x16.F32.BF16": 2}}, "0 structured-sparse"),
        (SPARSE | {"products": {"HGMMA.SP.64x128x32.F32.BF16": 2}}, "has 0 dense"),
        (SPARSE | {"products": {"HGMMA.64x128x16.F32": 2}}, "not HGMMA of kBf16"),
        (SPARSE | {"products": {"HMMA.16816.F32.BF16": 2}}, "not HGMMA of kBf16"),
        (THREE, None),
        (THREE | {"products": {"HMMA.1688.F32.TF32": 47}}, "of 3 passes"),
        (THREE | {"products": {}}, "has 0 dense"),
        ({"kernel": f"MmaInWeight<1, {BF16}>", "products": {"HMMA.16816.F32.BF16": 8}}, None),
        ({"kernel": f"MmaInWeight<1, {BF16}>", "products": {}}, "has 0 dense"),
    ],
)
def test_faults(change: dict, fault: str | None) -> None:
    found = aot_cuda.faults({**GOOD, **change})
    assert (found == []) if fault is None else any(fault in f for f in found)


def test_a_kernel_that_is_missing_or_unknown_is_a_fault() -> None:
    kernels = [GOOD | dict(kernel=name) for name in sorted(aot_cuda.expected("mma"))]
    assert aot_cuda.missing("mma", kernels) == []
    other = dict(kernel="MmaOut<9, 0, true, TallMmaTile>")
    assert aot_cuda.missing("mma", [*kernels[1:], GOOD | other]) == [
        f"sm_80 lacks {kernels[0]['kernel']}",
        "sm_80 has MmaOut<9, 0, true, TallMmaTile>",
    ]


def test_every_file_of_kernels_is_known() -> None:
    units = [p.stem for p in aot_cuda.SOURCES.glob("*.cu")]
    assert len(units) > 5 and all(isinstance(aot_cuda.expected(unit), set) for unit in units)
    listed = re.findall(r"kernels/cuda/(\w+)\.cu\b", (ROOT / "CMakeLists.txt").read_text())
    assert sorted(listed) == sorted(units)


@pytest.mark.parametrize(
    "binaries, ptx, capability, served",
    [
        ({"100"}, set(), (10, 3), True),
        ({"100"}, set(), (11, 0), False),
        ({"86"}, set(), (8, 0), False),
        ({"90a"}, set(), (9, 0), False),
        (set(), {"80"}, (11, 0), True),
        (set(), {"120"}, (11, 0), False),
    ],
)
def test_who_has_something_to_run(binaries, ptx, capability, served) -> None:
    assert aot_cuda.serves(binaries, ptx, capability) == served


def test_a_wheel_has_something_for_every_gpu() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    (default,) = re.findall(r'set\(architectures "([\d;a-z-]+)"\)', text)
    names = default.split(";")
    binaries = {n.removesuffix("-real") for n in names}
    ptx = {n for n in names if n.isdigit()}
    without = [c for c in aot_cuda.CAPABILITIES if not aot_cuda.serves(binaries, ptx, c)]
    assert without == []


@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
@pytest.mark.skipif(tool("cuobjdump") is None, reason="cuobjdump is not installed")
def test_the_gate_passes_and_fails_on_real_machine_code(tmp_path: Path) -> None:
    (tmp_path / "bad.cu").write_text(
        """
        #include "device.cuh"
        __global__ void bad(int* counter, const int* at) {
          int values[64];
          for (int n = 0; n < 64; ++n) values[at[n] % 64] = at[n];
          __threadfence();
          __syncthreads();
          atomicAdd(counter, values[at[64]]);
        }
        """
    )
    found = {}
    for source in (ROOT / "tests/cpp/device_group.cu", tmp_path / "bad.cu"):
        binary = tmp_path / source.with_suffix(".o").name
        command = ["nvcc", "-std=c++17", "-arch=sm_90a", "--expt-relaxed-constexpr", "-c"]
        command += [f"-I{ROOT}/kernels/include", f"-I{ROOT}/kernels/cuda", source, "-o", binary]
        subprocess.run(command, check=True)
        found |= {k["kernel"]: k for k in aot_cuda.kernels_of(binary)}
    last, products, bad = (
        found["LastAddsUp"],
        found["DivergentProducts"],
        found["bad(int*, int const*)"],
    )
    assert last["around_atomic"] == FENCED and not aot_cuda.faults(last)
    assert products["products"] == {"HGMMA.64x64x8.F32.TF32": 1} and products["waits"] == 1
    wrong = " ".join(aot_cuda.faults(bad))
    assert "stack of" in wrong and "without a fence" in wrong
