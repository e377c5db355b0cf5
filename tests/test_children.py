"""Processes that a script under `python -m kan_fast` starts, and what its last lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from kan_fast.interop.unrecognised import is_look_alike_class, is_unrecognised

TESTS = Path(__file__).parent
CHILDREN = """
import multiprocessing, os, subprocess, sys
import torch
import torch.multiprocessing
from efficient_kan_copies import ViewKANLinear

class WavKANLinear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
    def forward(self, x):
        return x * self.weight

class Data(torch.utils.data.Dataset):
    def __init__(self):
        self.layer = ViewKANLinear(8, 4)
    def __len__(self):
        return 6
    def __getitem__(self, n):
        return self.layer(torch.rand(1, 8)).detach()

def work(rank=0):
    layer = ViewKANLinear(8, 4)
    for _ in range(10):
        layer(torch.rand(9, 8))

def killed():
    work()
    os._exit(3)

if __name__ == "__main__":
    WavKANLinear()(torch.ones(3))
    work()
    torch.multiprocessing.spawn(work, nprocs=1)
    for how, what in (("fork", work), ("forkserver", work), ("fork", killed)):
        process = multiprocessing.get_context(how).Process(target=what)
        process.start()
        process.join()
    for _ in torch.utils.data.DataLoader(Data(), num_workers=2):
        pass
    for code in (
        "from efficient_kan_copies import *; ViewKANLinear(8, 4)(torch.rand(2, 8))",
        "import sys; assert 'torch' not in sys.modules",
    ):
        subprocess.run([sys.executable, "-c", code], check=True)
    print("done")
"""


def run(script: Path, *before: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *before, str(script)],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_children_are_accelerated_and_counted(tmp_path: Path) -> None:
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    said = run(script, "-m", "kan_fast")
    # the script, spawn, fork and forkserver with 10 calls each, 6 of two workers, 1 of a program
    assert "7 of 7 KAN layers accelerated (7 by native): 47 calls by native" in said
    assert "not recognised: 1 x WavKANLinear" in said
    assert "6 child processes are counted, 1 are not: they ended before they could tell" in said
    plain = run(script, "-m", "kan_fast", KAN_FAST_DISABLE="1")
    assert "done" in plain and "KAN_FAST_DISABLE is set" in plain


def test_a_distributed_run_is_accelerated(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text("from efficient_kan_copies import *\nViewKANLinear(8, 4)(torch.rand(2, 8))")
    said = run(script, "-m", "kan_fast", "-m", "torch.distributed.run", "--standalone")
    assert "1 of 1 KAN layers accelerated (1 by native): 1 call by native" in said


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sitecustomize.py").write_text("print('theirs ran')")
    script = tmp_path / "parent.py"
    script.write_text("import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'])")
    path = os.pathsep.join([str(tmp_path / "theirs"), str(TESTS)])
    said = run(script, "-m", "kan_fast", PYTHONPATH=path)
    assert said.count("theirs ran") == 2


def test_calls_that_fell_back_are_in_the_last_lines(tmp_path: Path) -> None:
    script = tmp_path / "mixed.py"
    script.write_text(
        "import torch; from efficient_kan_copies import *\n"
        "layer, edited = ViewKANLinear(8, 4), EditedDropout(8, 4)\n"
        "for _ in range(3): layer(torch.rand(2, 8)); edited(torch.rand(2, 8))\n"
        "layer.grid.requires_grad_(); layer(torch.rand(2, 8))\n"
    )
    said = run(script, "-m", "kan_fast")
    assert "1 of 2 KAN layers accelerated (1 by native): 3 calls by native, 7 by" in said
    assert re.search(r"left alone: 1 x EditedDropout 8 -> 4: its forward uses self.training", said)
    assert "own code: 1 calls of ViewKANLinear 8 -> 4: its grid requires a gradient" in said


LAYERS = """
KANLinear WavKANLinear BSRBF_KAN BSRBFKANLayer GRAMKANLayer FourierKANLayer JacobiKANLayer NaiveKANs
ReLUKANLayer SKANLinear LKANLinear FasterKANLayer MatrixKANLayer KolmogorovArnoldLayer
""".split()
OTHERS = "Kanji Kangaroo OKANAGAN KANGAROO Linear Conv2d Balkan Tekanlinear".split()


@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_names_of_layers(name: str) -> None:
    assert is_look_alike_class(type(name, (nn.Module,), {})) == (name in LAYERS)


def test_a_model_of_known_layers_is_no_stranger() -> None:
    from efficient_kan_copies import ViewKANLinear

    class KAN(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layers = nn.ModuleList([layer])

    stranger = type("WavKANLinear", (nn.Module,), {})()
    assert not is_unrecognised(KAN(ViewKANLinear(2, 2)))
    assert not is_unrecognised(KAN(stranger)) and is_unrecognised(stranger)
    assert is_unrecognised(KAN(nn.Linear(2, 2)))
