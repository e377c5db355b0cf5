"""Scripts that nobody changes: `python -m kan_fast`, `%load_ext kan_fast`, `kan_fast.install`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from efficient_kan_copies import VendoredKANLinear
from torch import nn

import kan_fast
from kan_fast.interop import dispatch, zero_code

ROOT = Path(__file__).parent.parent


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


def final_loss(done: subprocess.CompletedProcess) -> float:
    assert done.returncode == 0, done.stderr
    return float(re.search(r"final loss ([\d.]+)", done.stdout).group(1))


@pytest.mark.parametrize("script", ["digits_vendored_kan", "poisson_kan", "cuda_graph_step"])
def test_an_example_gives_the_same_loss(script: str) -> None:
    path = f"examples/unmodified/{script}.py"
    plain = python(path)
    fast = python("-m", "kan_fast", "--verify", "2", path)
    assert "kan_fast" not in plain.stderr
    count = 3 if script == "poisson_kan" else 2
    assert f"{count} of {count} KAN layers accelerated ({count} by native)" in fast.stderr
    assert f"{2 * count} calls verified" in fast.stderr
    assert final_loss(fast) == pytest.approx(final_loss(plain), rel=1e-3)


def test_unmodified_examples_know_nothing_of_us() -> None:
    for path in (ROOT / "examples/unmodified").glob("*.py"):
        assert not re.search(r"^\s*(import|from) kan_fast", path.read_text(), re.M), path


def test_the_switch_turns_everything_off() -> None:
    done = python(
        "-m", "kan_fast", "-v", "examples/unmodified/digits_vendored_kan.py", KAN_FAST_DISABLE="1"
    )
    assert "KAN_FAST_DISABLE is set, nothing was accelerated" in done.stderr
    assert "accelerated (" not in done.stdout


def test_arguments_exit_codes_and_names_are_the_script_s(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, helper\nprint(__name__, sys.argv[1:], helper.__name__)\nsys.exit(7)\n"
    )
    (tmp_path / "helper.py").write_text("")
    done = python("-m", "kan_fast", str(script), "-v", "--verify", "x")
    assert done.stdout.strip() == "__main__ ['-v', '--verify', 'x'] helper"
    assert done.returncode == 7
    assert "no KAN layer was called" in done.stderr


def test_a_module_runs_too(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("import sys\nprint(__name__, sys.argv[1:])\n")
    done = python("-m", "kan_fast", "-m", "thing", "a", PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == "__main__ ['a']", done.stderr


def test_an_error_in_the_script_is_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise KeyError('mine')\n")
    done = python("-m", "kan_fast", str(script))
    assert done.returncode == 1 and "KeyError: 'mine'" in done.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["missing.py"], "got no file 'missing.py'"),
        (["-v"], "got no script"),
        (["--verify", "many", "x.py"], "cannot read '--verify'"),
        (["--fast"], "cannot read '--fast'"),
    ],
)
def test_what_cannot_run_is_said(arguments: list[str], sentence: str) -> None:
    done = python("-m", "kan_fast", *arguments)
    assert done.returncode == 2 and sentence in done.stderr and "usage:" in done.stderr


def test_commands_still_run() -> None:
    assert "backends" in python("-m", "kan_fast", "info").stdout
    assert python("-m", "kan_fast", "--version").stdout.strip() == kan_fast.__version__


@pytest.fixture
def installed():
    kan_fast.install(verify=2)
    yield zero_code
    kan_fast.uninstall()


def flagged(module: nn.Module) -> bool:
    return dispatch.FLAG in module.__dict__


def test_layers_that_exist_and_classes_to_come() -> None:
    before = VendoredKANLinear(3, 4)
    x = torch.rand(5, 3)
    expected = before(x)
    kan_fast.install()
    try:

        class Later(VendoredKANLinear):
            pass

        later = Later(3, 4)
        torch.testing.assert_close(before(x), expected)
        later(x)
        assert flagged(before) and flagged(later)
        assert "2 of 2 KAN layers accelerated" in zero_code.summary()
    finally:
        kan_fast.uninstall()
    assert not flagged(before)
    assert not hasattr(VendoredKANLinear.forward, dispatch.FLAG)
    assert torch.equal(before(x), expected)
    assert "__init_subclass__" not in nn.Module.__dict__


def test_an_edited_layer_is_left_alone(installed) -> None:
    class Edited(VendoredKANLinear):
        def forward(self, x):
            return super().forward(x) * 1.01

    layer = Edited(3, 4)
    x = torch.rand(5, 3)
    y = layer(x)
    assert not flagged(layer)
    torch.testing.assert_close(y, VendoredKANLinear.forward(layer, x) * 1.01)
    assert "0 of 1 KAN layers" in zero_code.summary()
    assert "left alone: 1 x Edited 3 -> 4: its forward differs" in zero_code.summary()


def test_a_call_that_differs_sends_the_layer_back(
    installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kan_fast.interop.adapters.efficient_kan import EfficientKan

    right = EfficientKan.run
    monkeypatch.setattr(EfficientKan, "run", lambda self, *a: right(self, *a) + 1)
    layer = VendoredKANLinear(3, 4)
    x = torch.rand(5, 3)
    y = layer(x)
    assert not flagged(layer) and "runs its own forward again" in caplog.text
    torch.testing.assert_close(
        y, right(EfficientKan(), layer, x, EfficientKan().prepare(layer), None)
    )


def test_gradients_and_random_numbers_are_not_disturbed_by_verifying(installed) -> None:
    layer = VendoredKANLinear(3, 4)
    torch.manual_seed(1)
    layer(torch.rand(5, 3)).sum().backward()
    after = torch.rand(3)
    torch.manual_seed(1)
    torch.rand(5, 3)
    assert torch.equal(after, torch.rand(3))
    assert layer.spline_weight.grad is not None


def test_a_compiled_model_is_accelerated_before_it_is_traced(installed) -> None:
    torch._dynamo.reset()
    model = nn.Sequential(VendoredKANLinear(3, 4), VendoredKANLinear(4, 2))
    x = torch.rand(5, 3)
    expected = model(x)
    fresh = nn.Sequential(VendoredKANLinear(3, 4), VendoredKANLinear(4, 2))
    fresh.load_state_dict(model.state_dict())
    compiled = torch.compile(fresh, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    assert all(flagged(m) for m in fresh)


def test_copies_and_checkpoints(installed, tmp_path: Path) -> None:
    import copy
    import pickle

    layer = VendoredKANLinear(3, 4)
    x = torch.rand(5, 3)
    y = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), y) and flagged(twin)
    assert set(layer.state_dict()) == set(VendoredKANLinear(3, 4).state_dict())


def test_the_speedup_is_printed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, time\ntime.sleep(0.2)\nprint(sys.argv[1:])\n")
    done = python("-m", "kan_fast", "--compare", str(script), "a", "b")
    assert done.returncode == 0 and done.stdout == "['a', 'b']\n"
    assert re.search(r"0\.2\d s as it is, 0\.2\d s accelerated: [01]\.\d times", done.stderr)
    # a script that fails as it is has nothing to compare with
    script.write_text("raise SystemExit(3)\n")
    done = python("-m", "kan_fast", "--compare", str(script))
    assert done.returncode == 3 and "times as fast" not in done.stderr


def test_the_notebook_extension() -> None:
    kan_fast.load_ipython_extension(None)
    try:
        layer = VendoredKANLinear(3, 4)
        layer(torch.rand(5, 3))
        assert flagged(layer)
    finally:
        kan_fast.unload_ipython_extension(None)
    assert zero_code.summary() == "kan_fast: not installed"
