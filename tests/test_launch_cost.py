"""What the host does for a launch of a Triton kernel, in counts: times depend on the machine.

`fake_gpu.py` runs Triton's launch path on a driver of a GPU that is not there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kan_fast import machine
from kan_fast.backends.triton import plan as triton_plan
from kan_fast.backends.triton import tiles, tuned
from kan_fast.spec import Gpu

if machine.facts().triton is None:
    pytest.skip(f"Triton: {machine.facts().triton_error}", allow_module_level=True)

H100 = Gpu("NVIDIA H100", (9, 0), 132)


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    program = Path(__file__).parent / "fake_gpu.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


#: kernels of a case; how many Python functions of the package it may call, and how many in all,
#: torch's and Triton's among them: a tenth more than there are; and how many tensors it allocates
BOUNDS = {
    "layer forward": (["contract_out"], 31, 73, 1),
    "layer step": (["contract_out", "contract_in_weight", "unfold"], 70, 152, 7),
    "gathering layer forward": (["pack", "gather_out"], 42, 128, 2),
    "gathering layer step": (
        ["pack", "gather_out", "pack", "gather_in", "contract_in_weight", "unfold"], 83, 276, 9,
    ),
    "network step": (
        ["contract_out"] * 2 + ["contract_in_weight", "unfold"] * 2, 112, 256, 14,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOUNDS)
def test_a_warm_launch_stays_inside_the_process(found: dict[str, dict], case: str) -> None:
    # a folder was listed to find the table of tiles, in every forward and backward
    assert found[case]["outside"] == []


@pytest.mark.parametrize("case", BOUNDS)
def test_a_launch_calls_few_functions(found: dict[str, dict], case: str) -> None:
    kernels, ours, calls, allocations = BOUNDS[case]
    counts = found[case]
    assert counts["launches"] == kernels
    # autograd takes each gradient of a leaf as its own
    work = [name for name in counts["operators"] if name != "aten.detach.default"]
    assert counts["allocations"] == allocations == len(work), counts["operators"]
    assert counts["ours"] <= ours and counts["calls"] <= calls, counts["by_function"]


def test_the_fake_notices(tmp_path: Path) -> None:
    """A launch that reaches outside the process, or does its work twice, shows in the counts."""
    program = """
import os, sys
sys.path.insert(0, {folder!r})
import fake_gpu

fake_gpu.install()
run = fake_gpu.cases()["layer forward"]
once = fake_gpu.measured(run)
twice = fake_gpu.measured(lambda: (run(), run(), os.path.exists("/"), os.listdir("/")))
assert twice["launches"] == 2 * once["launches"]
assert twice["ours"] == 2 * once["ours"] and twice["allocations"] == 2 * once["allocations"]
assert twice["outside"] == ["os.listdir", "stat", "listdir"], twice["outside"]
"""
    program = program.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_a_plan_that_is_kept_follows_the_tiles() -> None:
    """A search that times the plan of the tile before it would find nothing."""
    shape = tiles.Shape("tf32", 1000, 64, 64, 8, 3, H100)
    rule, *_, last = tiles.candidates("out", shape)

    def taken() -> object:
        variant = (1, False, True, True)
        plan = triton_plan.out(shape, variant, 0, tuned.generation())
        assert plan is triton_plan.out(shape, variant, 0, tuned.generation())
        return plan.tile

    before = taken()
    for tile in (last, rule):
        with tuned.using("out", tile):
            assert taken() == tile
    assert taken() == before
