"""Which parameters of a pykan model get gradients, and which: plain and accelerated, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from pykan_pairs import close, data, gradients, kan, pair
from ranks import on_two_ranks

import kan_fast
from kan_fast.interop import dispatch

pytestmark = pytest.mark.usefixtures("double")
QUIET = {"verbose": False, "log_history": False}


def symbolic(model: torch.nn.Module) -> None:
    model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False, **QUIET)


def unsymbolic(model: torch.nn.Module) -> None:
    # its function stays, and 0 * log of a negative number is not a number
    model.fix_symbolic(0, 1, 2, "log", fit_params_bool=False, **QUIET)
    model.unfix_symbolic(0, 1, 2, log_history=False)


def removed(model: torch.nn.Module) -> None:
    model.remove_edge(0, 1, 1, log_history=False)


def both(model: torch.nn.Module) -> None:
    model.set_mode(0, 0, 0, "sn")


def of_its_own(model: torch.nn.Module) -> None:
    model.symbolic_fun[0].funs[2][1] = torch.cos
    model.symbolic_fun[0].mask.data[2, 1] = 0.5


def fixed(model: torch.nn.Module) -> None:
    for p in model.act_fun[0].parameters():
        p.requires_grad_(False)


def without_symbols(model: torch.nn.Module) -> None:
    model.symbolic_enabled = False


def coinciding(model: torch.nn.Module) -> None:
    model.act_fun[1].grid.data[:, 5] = model.act_fun[1].grid.data[:, 4]


def affine_not_zero(model: torch.nn.Module) -> None:
    model.symbolic_fun[0].affine.data.fill_(0.7)


def nan_affine(model: torch.nn.Module) -> None:
    model.symbolic_fun[0].affine.data[1, 0, 2] = torch.nan


STATES = [
    symbolic, unsymbolic, removed, both, of_its_own, fixed, without_symbols, coinciding,
    affine_not_zero, nan_affine,
]  # fmt: skip


def same_gradients(plain, fast, theirs: torch.Tensor, ours: torch.Tensor) -> None:
    names = [name for name, p in plain.named_parameters() if p.requires_grad]
    found = gradients(plain, theirs), gradients(fast, ours)
    for name, a, b in zip(names, *found, strict=True):
        # a kernel adds nothing to coefficients of functions that are zero on all rows, and pykan
        # adds 0 * NaN
        if theirs.isfinite().all() or "affine" in name:
            torch.testing.assert_close(a, b, equal_nan=True, msg=lambda m, name=name: f"{name} {m}")
        assert a.shape == b.shape


@pytest.mark.filterwarnings("ignore:kan_fast. the pykan model")
@pytest.mark.parametrize("save_act", [True, False], ids=["activations", "no-activations"])
@pytest.mark.parametrize("state", [lambda m: None, *STATES], ids=lambda f: f.__name__)
def test_the_same_parameters_have_gradients(state, save_act: bool) -> None:
    plain, fast = pair(affine_trainable=True)
    x = data(60)["train_input"]
    for model in (plain, fast):
        state(model)
        model.save_act = save_act
    outputs = plain(x), fast(x)
    torch.testing.assert_close(*outputs, equal_nan=True)
    same_gradients(plain, fast, *outputs)
    for name in ("edge_actscale", "acts_scale_spline") if save_act else ():
        # the first use freed what it had of the graph
        for model in (plain, fast):
            model(x)
        of = [sum(t.sum() for t in getattr(m, name)) for m in (plain, fast)]
        same_gradients(plain, fast, *of)


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_what_is_not_finite_reaches_the_same_parameters(bad: float) -> None:
    plain, fast = pair()
    x = data(20)["train_input"]
    x[3, 1] = bad
    for masked in (True, False):
        y = [model(x) for model in (plain, fast)]
        torch.testing.assert_close(*y, equal_nan=True)
        if masked:  # a loss that leaves the row out still has 0 * NaN in its gradients
            y = [torch.where(t.isfinite(), t, 0) for t in y]
        affine = [[layer.affine for layer in m.symbolic_fun] for m in (plain, fast)]
        found = [torch.autograd.grad(t.sum(), a) for t, a in zip(y, affine, strict=True)]
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)
        assert found[0][0].isnan().any()


def test_gradients_of_gradients_and_of_the_penalty() -> None:
    plain, fast = pair(width=[2, 3, 1])
    x = data(40)["train_input"]
    metrics = ("edge_forward_spline_n", "edge_forward_spline_u")
    for n, metric in enumerate((*metrics, "edge_backward")):
        found = []
        for model in (plain, fast):
            if n == 1:
                symbolic(model)
            parameters = [p for p in model.parameters() if p.requires_grad]
            model(x)
            if metric == "edge_backward":
                model.attribute(plot=False)
            loss = model.get_reg(metric, 1.0, 2.0, 0.1, 0.1)
            first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            length = sum(g.square().sum() for g in first if g is not None)
            found.append(gradients(model, length))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:kan_fast. the pykan model")
@pytest.mark.parametrize("derivative", ["hessian", "jacobian"])
def test_derivatives_by_all_parameters(derivative: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    samples = data(15)
    found = []
    for model in pair(width=[2, 1], grid=3):
        model.symbolic_fun[0].affine.data.fill_(0.3)
        found.append(
            kan.utils.get_derivative(
                model, samples["train_input"], samples["train_label"], derivative
            )
        )
    torch.testing.assert_close(*found)


def _trained(rank: int) -> list[list[float]]:
    torch.set_default_dtype(torch.float64)
    found = []
    for model in pair(width=[2, 3, 1]):
        symbolic(model)
        entrant = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            torch.manual_seed(10 * step + rank)
            optimizer.zero_grad()
            entrant(torch.rand(20, 2)).square().mean().backward()
            optimizer.step()
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist())
    return found


def test_processes_that_train_together() -> None:
    # a parameter without a gradient would stop the second step
    for plain, fast in on_two_ranks(_trained):
        torch.testing.assert_close(torch.tensor(plain), torch.tensor(fast))


def test_functions_edited_in_their_lists_are_seen() -> None:
    plain, fast = pair()
    x = data(30)["train_input"]
    for edit in (torch.sin, lambda t: t**2, lambda t: t * 0.0):
        for model in (plain, fast):
            model.symbolic_fun[0].affine.data[1, 1] = torch.tensor([1.0, 0.5, 2.0, 0.1])
            model.symbolic_fun[0].funs[1][1] = edit
            model.symbolic_fun[0].mask.data[1, 1] = 1
        y = [model(x) for model in (plain, fast)]
        close(*y)
        for a, b in zip(gradients(plain, y[0]), gradients(fast, y[1]), strict=True):
            close(a, b)


def test_a_trained_symbolic_mask_runs_pykan_s_code() -> None:
    plain, fast = pair(width=[2, 2, 1])
    x = data(30)["train_input"]
    for model in (plain, fast):
        model.symbolic_fun[0].affine.data.fill_(0.3)
        model.symbolic_fun[0].mask.requires_grad_(True)
    y = [model(x) for model in (plain, fast)]
    runs = fast.__dict__[dispatch.FLAG].runs
    assert runs.own == {"a symbolic mask that requires a gradient in layer 0": 1}
    for a, b in zip(gradients(plain, y[0]), gradients(fast, y[1]), strict=True):
        close(a, b)


def test_a_copy_of_a_model_has_its_symbols() -> None:
    plain, _ = pair(width=[2, 2, 1])
    symbolic(plain)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = data(30)["train_input"]
    assert isinstance(fast, kan.KAN)
    close(plain(x), fast(x))
