"""The real pykan twice, plain and accelerated, over its own workflow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kan_fast
from kan_fast import dispatch

FOLDER = os.environ.get("KAN_FAST_PYKAN")
if not FOLDER:
    pytest.skip("KAN_FAST_PYKAN is unset: no folder with pykan given", allow_module_level=True)
sys.path.append(FOLDER)
kan = pytest.importorskip("kan", reason="pykan cannot be imported here")

MODELS = {
    "plain": {},
    "products": {"width": [2, [3, 2], 1]},
    "products of three": {"width": [2, [3, 2], 1], "mult_arity": 3},
    "products of different sizes": {"width": [2, [2, 2], 1], "mult_arity": [[], [2, 3], []]},
    "no base": {"base_fun": "zero"},
    "identity base": {"base_fun": "identity"},
    "quadratic": {"grid": 8, "k": 2},
    "sparse": {"sparse_init": True},
    "grids of their own": {"grid": [3, 7]},
}


def pair(**options) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same model plain and accelerated."""
    given = {"width": [2, 5, 1], "grid": 5, "k": 3, "seed": 1, "auto_save": False, **options}
    # pykan writes into the list of widths
    plain, fast = (kan.KAN(**{**given, "width": list(given["width"])}) for _ in range(2))
    kan_fast.accelerate(fast, strict=True)
    assert dispatch.FLAG in fast.__dict__ and dispatch.FLAG not in plain.__dict__
    return plain, fast


def data(rows: int = 300) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.rand(rows, 2) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    return {"train_input": x, "train_label": y, "test_input": x[:50], "test_label": y[:50]}


def gradients(model: torch.nn.Module, y: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(y.square().sum(), parameters, allow_unused=True)
    # parameters of edges that are not symbolic: zeros there, nothing here
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(
        a, b, rtol=1e-4, atol=1e-5 * float(a.detach().abs().max().clamp_min(1e-6))
    )


@pytest.mark.parametrize("save_act", [True, False], ids=["activations", "no-activations"])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_values_and_gradients(options: dict, save_act: bool) -> None:
    plain, fast = pair(**options)
    plain.save_act = fast.save_act = save_act
    x = data()["train_input"]
    ours, theirs = fast(x), plain(x)
    close(theirs, ours)
    for a, b in zip(gradients(plain, theirs), gradients(fast, ours), strict=True):
        close(a, b)
    assert fast.symbolic_enabled
    for name in ("acts", "spline_postacts", "acts_scale", "acts_scale_spline", "edge_actscale"):
        found, expected = getattr(fast, name), getattr(plain, name)
        assert len(found) == len(expected)
        for a, b in zip(expected, found, strict=True):
            close(a, b)


def test_float64_and_second_derivatives() -> None:
    plain, fast = pair()
    x = data(40)["train_input"].double()
    found = []
    for model in (plain.double(), fast.double()):
        model.save_act = False
        at = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(at).sum(), at, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), at)[0])
    torch.testing.assert_close(*found)


@pytest.fixture
def double() -> None:
    # a line search and a grid search magnify rounding; float32 would decide by luck
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("lamb", [0.0, 1e-3])
@pytest.mark.parametrize("opt, steps", [("Adam", 12), ("LBFGS", 2)])
def test_fit(opt: str, steps: int, lamb: float, double: None) -> None:
    found = []
    for model in pair():
        torch.manual_seed(3)
        result = model.fit(
            data(), opt=opt, steps=steps, lamb=lamb, lr=1e-2 if opt == "Adam" else 1.0,
            grid_update_num=3, stop_grid_update_step=8,
        )  # fmt: skip
        found.append(torch.tensor([float(n) for n in result["train_loss"]]))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-4)


def test_update_prune_refine_and_symbols(
    tmp_path, monkeypatch: pytest.MonkeyPatch, double: None
) -> None:
    # pykan's pruned models keep a history there
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    plain, fast = pair(width=[2, 4, 1], grid=3)
    inputs = data()["train_input"]

    def same(step: str) -> None:
        for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=step)
        close(plain(inputs), fast(inputs))

    for model in (plain, fast):
        torch.manual_seed(3)
        model.fit(data(), opt="Adam", steps=8, lr=1e-2, lamb=0.0, update_grid=False)
    same("fit")
    for model in (plain, fast):
        model.update_grid_from_samples(inputs)
    same("update_grid")
    pruned = []
    for model in (plain, fast):
        model(inputs)
        model.attribute()
        pruned.append(model.prune(node_th=1e-3, edge_th=1e-3))
    plain, fast = pruned
    same("prune")
    plain, fast = plain.refine(5), fast.refine(5)
    # a refined model is a new one
    kan_fast.accelerate(fast, strict=True)
    same("refine")
    for model in (plain, fast):
        model.fix_symbolic(0, 0, 0, "sin", verbose=False, log_history=False)
    assert fast.symbolic_fun[0].mask.any()
    # a sine fits with either sign of its frequency: the functions agree, not their parameters
    torch.testing.assert_close(plain(inputs), fast(inputs), rtol=1e-2, atol=1e-2)


def test_copies_checkpoints_and_restoring(tmp_path) -> None:
    import copy

    plain, fast = pair()
    x = data()["train_input"]
    twin = copy.deepcopy(fast)
    close(plain(x), twin(x))
    plain.load_state_dict(fast.state_dict())
    fast.saveckpt(str(tmp_path / "model"))
    again = kan.KAN.loadckpt(str(tmp_path / "model"))
    close(plain(x), again(x))
    kan_fast.restore(fast)
    assert torch.equal(plain(x), fast(x))


def test_what_is_said_of_a_model() -> None:
    _, fast = pair()
    x = data()["train_input"]
    assert "native (2-5-1, spline_order=3, float32 on cpu)" in kan_fast.explain(fast, x)
    report = kan_fast.report(torch.nn.Sequential(fast))
    assert [layer.kind for layer in report.accelerated] == ["pykan"] and not report.skipped


def test_a_wrong_input_is_refused() -> None:
    _, fast = pair()
    fast.save_act = False
    # pykan takes the columns that it knows, whatever else there is
    assert fast(torch.rand(4, 3)).shape == (4, 1)
    with pytest.raises(IndexError):
        fast(torch.rand(4, 1))


def test_knots_that_coincide_run_pykan_s_own_code() -> None:
    plain, fast = pair()
    plain.save_act = fast.save_act = False
    for model in (plain, fast):
        model.act_fun[0].grid.data[:, 5] = model.act_fun[0].grid.data[:, 4]
    x = data()["train_input"]
    close(plain(x), fast(x))


def test_the_example_gives_the_same_loss() -> None:
    root = Path(__file__).parent.parent
    path = os.pathsep.join([FOLDER, os.environ.get("PYTHONPATH", "")])
    losses = []
    for runner in ([], ["-m", "kan_fast", "--verify", "2"]):
        done = subprocess.run(
            [sys.executable, *runner, "examples/pykan_regression.py"], capture_output=True,
            text=True, cwd=root, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append(float(re.search(r"final loss ([\d.]+)", done.stdout).group(1)))
    assert "1 of 1 KAN layers accelerated (1 by native); 2 calls verified" in done.stderr
    # a line search magnifies rounding: two runs of plain pykan differ by some percent, too
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_an_edited_copy_is_left_alone() -> None:
    class Edited(kan.KAN):
        def forward(self, x, singularity_avoiding=False, y_th=10.0):
            return super().forward(x) + 1

    model = Edited(width=[2, 2, 1], auto_save=False)
    kan_fast.accelerate(model)
    assert dispatch.FLAG not in model.__dict__
    with pytest.raises(RuntimeError, match="source is not that of pykan 0.2.8"):
        kan_fast.accelerate(model, strict=True)
