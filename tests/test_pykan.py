"""The real pykan twice, plain and accelerated, over its own workflow."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pykan_pairs import close, data, gradients, kan, pair

import kan_fast
from kan_fast.interop import dispatch

FOLDER = str(Path(kan.__file__).parents[1])

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
    for finer in (5, 10):
        plain, fast = plain.refine(finer), fast.refine(finer)
        # a refined model is a new one, and accelerated like its parent
        assert dispatch.FLAG in fast.__dict__ and dispatch.FLAG not in plain.__dict__
        same(f"refine {finer}")
    for model in (plain, fast):
        model.fix_symbolic(0, 0, 0, "sin", verbose=False, log_history=False)
    assert fast.symbolic_fun[0].mask.any()
    # a sine fits with either sign of its frequency: the functions agree, not their parameters
    torch.testing.assert_close(plain(inputs), fast(inputs), rtol=1e-2, atol=1e-2)


PLOTTED = (
    "acts_scale",
    "edge_actscale",
    "subnode_actscale",
    "spline_preacts",
    "spline_postsplines",
)


def test_scores_plots_and_formulas(tmp_path, monkeypatch, double: None) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="no matplotlib to plot with")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    inputs = data(200)["train_input"]
    found = []
    for n, model in enumerate(pair(width=[2, 2, 1])):
        model(inputs)
        model.attribute()
        model.node_attribute()
        scores = [*model.node_scores, *model.edge_scores, model.feature_score]
        scores += [t for name in PLOTTED for t in getattr(model, name)]
        scores += [torch.tensor(t) for t in model.get_fun(0, 1, 0)]
        plt.close("all")
        model.plot(folder=f"./figures{n}")
        plt.savefig("kan.png")
        plt.close("all")
        scores.append(torch.tensor(plt.imread("kan.png")))
        suggested = model.suggest_symbolic(0, 0, 0, lib=["x", "x^2", "sin"], verbose=False)[0]
        model.auto_symbolic(lib=["x", "x^2"], verbose=0)
        scores.append(model(inputs))
        # all edges are symbolic now: their scales come from the symbolic branch
        scores += [*model.acts_scale, *model.acts_scale_spline, *model.spline_postacts]
        formula = model.symbolic_formula()[0][0]
        found.append(
            (scores, suggested, [name for f in model.symbolic_fun for name in f.funs_name])
        )
        assert {str(s) for s in formula.free_symbols} == {"x_1", "x_2"}
    assert found[0][1:] == found[1][1:]
    for a, b in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("save_act", [True, False], ids=["activations", "no-activations"])
def test_models_that_are_partly_symbolic(save_act: bool) -> None:
    plain, fast = pair()
    x = data()["train_input"]
    for model in (plain, fast):
        model.save_act = save_act
        torch.manual_seed(0)
        for edge, name in (((0, 0, 1), "sin"), ((0, 1, 1), "x^2"), ((1, 2, 0), "log")):
            model.fix_symbolic(*edge, name, fit_params_bool=False, verbose=False, log_history=False)
        # both branches of one edge at once
        model.act_fun[0].mask.data[1, 1] = 0.5
    for options in ({}, {"singularity_avoiding": True, "y_th": 3.0}):
        ours, theirs = fast(x, **options).nan_to_num(), plain(x, **options).nan_to_num()
        close(theirs, ours)
        for a, b in zip(gradients(plain, theirs), gradients(fast, ours), strict=True):
            close(a.nan_to_num(), b.nan_to_num())
    if save_act:
        # the logarithm of negative inputs is not a number, there as here
        for name in ("acts_scale", "acts_scale_spline", "edge_actscale", "spline_postacts"):
            close(getattr(plain, name)[0], getattr(fast, name)[0])


@pytest.mark.parametrize("metric", ["edge_forward_spline_n", "edge_forward_spline_u"])
def test_penalties_and_their_gradients(metric: str) -> None:
    plain, fast = pair(width=[2, 3, 2])
    x = data(100)["train_input"]
    for model in (plain, fast):
        # an edge that is pruned: its scale is zero, and the gradient of the root is zero there
        model.act_fun[0].mask.data[1, 2] = 0
        model(x)
    losses = [m.get_reg(metric, 1.0, 2.0, 0.1, 0.2) for m in (plain, fast)]
    close(*losses)
    for a, b in zip(gradients(plain, losses[0]), gradients(fast, losses[1]), strict=True):
        close(a, b)


def test_copies_checkpoints_and_restoring(tmp_path) -> None:
    plain, fast = pair()
    x = data()["train_input"]
    fast(x)
    twin = copy.deepcopy(fast)
    close(plain(x), twin(x))
    # the model itself cannot be pickled, its activations can
    for a, b in zip(fast.acts_scale, pickle.loads(pickle.dumps(fast.acts_scale)), strict=True):
        assert torch.equal(a, b)
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


def test_the_example_gives_the_same_loss() -> None:
    root = Path(__file__).parent.parent
    path = os.pathsep.join([FOLDER, os.environ.get("PYTHONPATH", "")])
    losses = []
    for runner in ([], ["-m", "kan_fast", "--verify", "2"]):
        done = subprocess.run(
            [sys.executable, *runner, "examples/unmodified/pykan_regression.py"],
            capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append(float(re.search(r"final loss ([\d.]+)", done.stdout).group(1)))
    said = r"1 of 1 KAN layers accelerated \(1 by native\): \d+ calls by native; 2 calls verified"
    assert re.search(said, done.stderr)
    # a line search magnifies rounding: two runs of plain pykan differ by some percent, too
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_the_symbolic_example_runs(tmp_path: Path) -> None:
    script = "examples/unmodified/symbolic_law.py"
    path = os.pathsep.join([FOLDER, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "kan_fast", script, "--quick", "--out", str(tmp_path)],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"final loss [\d.]+ after pruning", done.stdout)
    # the model, and those that prune and refine return
    assert "3 of 3 KAN layers accelerated (3 by native)" in done.stderr
    assert (tmp_path / "symbolic_law.png").stat().st_size > 5000
