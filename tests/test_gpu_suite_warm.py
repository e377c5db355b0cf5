"""What is compiled beforehand is what a launch looks for in Triton's cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kan_fast import machine

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)
#: a layer that gathers, and a product whose precision has the name of a dtype
LAYER = """
import torch
from cases import make_case
from judge import on, triton
def gather(grid_size):
    case = make_case(9, 2, 3, grid_size)
    with torch.no_grad():
        on(triton)(case.x, case.knots, *case.parameters(), case.basis)
def run():
    gather(60)
    case = make_case(9, 2, 3)
    kernels = triton.kernels(case.spline_weight, torch.bfloat16)
    kernels.out(case.x, None, case.layer(), 0)
"""
#: notes the launches of the layer and compiles them
BEFORE = """
import json, os, sys
from pathlib import Path
from gpu_suite import collect, warm
facts = Path(sys.argv[1])
lines = facts.with_name("lines")
collect.note(json.loads(facts.read_text()), lines)
run()
noted = lines.read_text().splitlines()
pid = os.fork()
if pid == 0:
    import triton.knobs
    triton.knobs.runtime.jit_cache_hook = None
    os.environ["KAN_FAST_SUITE_UNTIL"] = "0"  # no time is left
    assert warm.compile_all(noted, collect.kernels(), 2) == (0, 0)
    del os.environ["KAN_FAST_SUITE_UNTIL"]
    broken = noted[0].replace('"kernel": "', '"kernel": "no_')
    found = warm.compile_all([broken, *noted], collect.kernels(), 2)
    print(json.dumps([len(noted), *found]), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
#: launches the same as Triton itself would, with what a launch needs of a driver put in its place
LAUNCH = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from gpu_suite import collect
from triton import knobs
from triton.runtime.driver import driver
collect.pretend(json.loads(Path(sys.argv[1]).read_text()))
driver.active.launcher_cls = lambda source, metadata: lambda *arguments: None
driver.active.utils = SimpleNamespace(
    get_device_properties=lambda _: {"max_shared_mem": 232448},
    load_binary=lambda *_: (0, 0, 0, 0, 1024),
)
hits = []
knobs.compilation.listener = lambda cache_hit, src, **_: hits.append([src.name, cache_hit])
run()
same = list(hits)
hits.clear()
gather(59)
print(json.dumps([same, hits]))
"""


def test_a_launch_finds_what_was_compiled_before(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(
        json.dumps({"name": "NVIDIA H100", "capability": [9, 0], "multiprocessors": 132})
    )
    environment = {
        **os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), str(ROOT / "tests"), str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
        ),
    }  # fmt: skip
    found = []
    for program in (BEFORE, LAUNCH):
        done = subprocess.run(
            [sys.executable, "-c", LAYER + program, facts],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    (noted, compiled, failed), (same, other) = found
    assert noted == compiled >= 3 and failed == 1
    assert {name for name, _ in same} >= {"pack", "gather_out", "contract_out"}
    assert all(hit for _, hit in same), same
    # the control: another grid is another kernel
    assert any(not hit for _, hit in other), other
