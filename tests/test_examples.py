"""Every example runs, says what it found, and leaves its plot."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(p.stem for p in (ROOT / "examples").glob("*.py") if p.stem != "common")
#: what an example imports that the tests do not install
NEEDS = {"knot_signature": "snappy"}
#: what is in the line that an example is about
SAYS = {
    "special_functions": r"KAN \[2,5,1\]: 120 parameters \d",
    "poisson": r"KAN \[2,10,1\]: 450 parameters, relative L2 error \d",
    "classification": r"digits, MLP, same parameters: [\d.]+% of test images right",
    "mobility_edge": r"states told apart: [\d.]+% by the KAN",
    "transformer_mlp": r"KAN 64-25-64: 48896 parameters, [\d.]+ ms a step",
    "distributed": r"2 processes on (cpu|cuda): loss [\d.]+ to",
    "export": r"kan.pt2: largest difference \d",
    "knot_signature": r"alone: [\d.]+% right",
}


def run(name: str, out: Path, *options: str) -> str:
    command = [sys.executable, f"examples/{name}.py", "--quick", "--out", str(out), *options]
    if name == "distributed":
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_known() -> None:
    assert sorted(SAYS) == EXAMPLES
    index = (ROOT / "examples/README.md").read_text()
    scripts = {*EXAMPLES, *(p.stem for p in (ROOT / "examples/unmodified").glob("*.py"))}
    assert set(re.findall(r"`(?:unmodified/)?(\w+)\.py`", index)) == scripts


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    assert re.search(SAYS[name], run(name, tmp_path))
    made = tmp_path / ("kan.pt2" if name == "export" else f"{name}.png")
    assert made.stat().st_size > 5000


def test_plain_pytorch_finds_the_same(tmp_path: Path) -> None:
    # a few steps of Adam: rounding has not grown yet
    fast, plain = (run("classification", tmp_path, *o) for o in ((), ("--plain",)))
    accuracies = [re.findall(r"KAN .*?: ([\d.]+)%", text) for text in (fast, plain)]
    assert len(accuracies[0]) == 1
    assert float(accuracies[0][0]) == pytest.approx(float(accuracies[1][0]), abs=1.0)
