"""pykan's layers by themselves, and what makes models and layers run pykan's own code."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from pykan_pairs import close, data, kan, pair

import kan_fast
from kan_fast import dispatch


def test_layers_by_themselves() -> None:
    torch.manual_seed(0)
    plain = kan.KANLayer(3, 4, num=6, k=2)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = torch.rand(50, 3, requires_grad=True)
    for n in range(4):
        ours, theirs = fast(x)[n], plain(x)[n]
        close(theirs, ours * 1.0)
        g = [torch.autograd.grad(torch.sum(t * t), x)[0] for t in (theirs, ours)]
        close(*g)
    for mode in ("sample", "grid"):
        samples = torch.randn(400, 3)
        for layer in (plain, fast):
            layer.update_grid_from_samples(samples, mode)
        close(plain.grid, fast.grid)
        torch.testing.assert_close(plain.coef, fast.coef, rtol=1e-2, atol=1e-3)
        finer = [kan.KANLayer(3, 4, num=9, k=2) for _ in range(2)]
        for layer, parent in zip(finer, (plain, fast), strict=True):
            layer.initialize_grid_from_parent(parent, samples, mode)
        close(finer[0].grid, finer[1].grid)
        torch.testing.assert_close(finer[0].coef, finer[1].coef, rtol=1e-2, atol=1e-3)


def test_ties_give_a_least_squares_fit(double: None) -> None:
    plain = kan.KANLayer(2, 3, num=5, k=3)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    # a categorical input and a constant one: of the latter all knots coincide
    x = torch.stack([torch.arange(300) % 3 - 1.0, torch.full((300,), 0.3)], dim=1)
    before = plain(x)[2]
    for layer in (plain, fast):
        layer.update_grid_from_samples(x)
    assert torch.equal(plain.grid, fast.grid) and fast.coef.isfinite().all()
    moved = [(layer(x)[2] - before).abs().amax((0, 1)) for layer in (plain, fast)]
    # three values can be met exactly; whether pykan's solution of this deficient system meets them
    # depends on the linear algebra library that torch brings
    assert float(moved[1][0]) < 1e-12
    # where all knots coincide pykan's functions are zero, whatever their coefficients
    close(moved[0][1], moved[1][1])


def test_knots_that_coincide_run_pykan_s_own_code() -> None:
    plain, fast = pair()
    plain.save_act = fast.save_act = False
    for model in (plain, fast):
        model.act_fun[0].grid.data[:, 5] = model.act_fun[0].grid.data[:, 4]
    x = data()["train_input"]
    with pytest.warns(UserWarning, match="model 2-5-1 .* because of coinciding knots in layer 0"):
        ours = fast(x)
    close(plain(x), ours)


def test_a_base_function_of_one_s_own_runs_pykan_s_code() -> None:
    plain, fast = pair(width=[2, 4, 1])
    for model in (plain, fast):
        for layer in model.act_fun:
            layer.base_fun = torch.nn.Softplus()
    x = data()["train_input"]
    with pytest.warns(UserWarning, match="2-4-1 .* because of a base function that no kernel"):
        ours = fast(x)
    close(plain(x), ours)
    close(plain.acts_scale[0], fast.acts_scale[0])


def test_an_edited_copy_is_left_alone() -> None:
    class Edited(kan.KAN):
        def forward(self, x, singularity_avoiding=False, y_th=10.0):
            return super().forward(x) + 1

    model = Edited(width=[2, 2, 1], auto_save=False)
    kan_fast.accelerate(model)
    assert dispatch.FLAG not in model.__dict__
    with pytest.raises(RuntimeError, match="source is not that of pykan 0.2.8"):
        kan_fast.accelerate(model, strict=True)


def test_an_update_rule_that_was_edited_stays() -> None:
    class Edited(kan.KAN):
        def update_grid_from_samples(self, x):
            self.updated = True

    model = kan_fast.accelerate(Edited(width=[2, 2, 1], auto_save=False), strict=True)
    grid = model.act_fun[0].grid.clone()
    model.update_grid_from_samples(data()["train_input"])
    assert model.updated and torch.equal(model.act_fun[0].grid, grid)


def test_a_penalised_step_makes_no_large_tensors() -> None:
    sys.path.append(str(Path(__file__).parent.parent / "bench"))
    import timing

    peak = []
    x = torch.rand(1000, 4) * 2 - 1
    for model in pair(width=[4, 50, 50, 1]):
        model.symbolic_enabled = False

        def step(model: torch.nn.Module = model) -> None:
            loss = model(x).square().mean()
            loss = loss + 1e-3 * model.get_reg("edge_forward_spline_n", 1.0, 2.0, 0.0, 0.0)
            loss.backward()

        peak.append(timing.peak_bytes(step))
    assert peak[1] < peak[0] / 10
