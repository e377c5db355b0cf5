"""pykan's layers by themselves, and what makes models and layers run pykan's own code."""

from __future__ import annotations

import contextlib
import copy
import sys
from pathlib import Path

import pytest
import torch
from pykan_pairs import close, data, kan, pair

import kan_fast
from kan_fast.interop import dispatch
from kan_fast.interop.adapters.pykan import layer as pykan_layer


def test_layers_by_themselves() -> None:
    torch.manual_seed(0)
    plain = kan.KANLayer(3, 4, num=6, k=2)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = torch.rand(50, 3, requires_grad=True)
    for n in range(4):
        ours, theirs = fast(x)[n], plain(x)[n]
        close(theirs, ours)
        assert type(ours) is torch.Tensor
        assert ours.requires_grad == theirs.requires_grad
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
    plain, fast = pair(width=[2, 6, 1])
    plain.save_act = fast.save_act = False
    for model in (plain, fast):
        model.act_fun[0].grid.data[:, 5] = model.act_fun[0].grid.data[:, 4]
    x = data()["train_input"]
    with pytest.warns(UserWarning, match="model 2-6-1 .* because of coinciding knots in layer 0"):
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


def uniform(layer: torch.nn.Module) -> None:
    pass


def updated(layer: torch.nn.Module) -> None:
    layer.grid.data += 0.05 * torch.rand(3, 1)


def masked(layer: torch.nn.Module) -> None:
    layer.mask.data[1, 2] = 0
    layer.scale_sp.data[0, 0] = 2.5


def one_row_of_knots(layer: torch.nn.Module) -> None:
    layer.grid = torch.nn.Parameter(layer.grid[:1].clone(), requires_grad=False)


def learned_knots(layer: torch.nn.Module) -> None:
    layer.grid.requires_grad_(True)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("state", [uniform, updated, masked, one_row_of_knots, learned_knots])
def test_all_four_results_and_all_gradients(state, k: int, double: None) -> None:
    plain = kan.KANLayer(3, 4, num=6, k=k)
    torch.manual_seed(1)
    state(plain)
    strict = state is not learned_knots
    with contextlib.nullcontext() if strict else pytest.warns(UserWarning, match="requires a grad"):
        fast = kan_fast.accelerate(copy.deepcopy(plain), strict=strict)
    # inside, outside and at the ends of the grid
    x = torch.cat([torch.rand(40, 3) * 5 - 2.5, plain.grid[:, [0, -1]].t().expand(2, 3)]).detach()
    for n in range(4):
        found = []
        for layer in (plain, fast):
            leaves = [x.clone().requires_grad_(), *(p for p in layer.parameters())]
            leaves = [p for p in leaves if p.requires_grad]
            y = layer(leaves[0])[n]
            first = torch.autograd.grad(
                y.square().sum(), leaves, create_graph=True, allow_unused=True
            )
            used = [g for g in first if g is not None]
            second = torch.autograd.grad(
                sum(g.square().sum() for g in used), leaves, allow_unused=True
            )
            none = torch.zeros(())
            found.append([y, *[none if g is None else g for g in (*first, *second)]])
        for a, b in zip(*found, strict=True):
            if a.shape == b.shape:
                torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
            else:  # an unused parameter of a second derivative, or zeros of it
                assert not a.any() and not b.any()


def test_what_is_not_finite_in_a_layer_by_itself() -> None:
    plain = kan.KANLayer(3, 4)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = torch.rand(20, 3)
    x[1, 1], x[2, 0], x[3, 2] = torch.nan, torch.inf, -torch.inf
    for n in (1, 2, 3):
        torch.testing.assert_close(plain(x)[n], fast(x)[n], equal_nan=True)


def test_hooks_transforms_and_checkpoints_of_a_layer() -> None:
    plain = kan.KANLayer(3, 4)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = torch.rand(9, 3)
    found = []
    for layer in (plain, fast):
        seen = []
        layer.register_forward_hook(lambda m, i, o, s=seen: s.extend(torch.stack(o[1:]).unbind()))
        layer(x)
        mapped = torch.func.vmap(lambda v, f=layer: torch.stack(f(v[None])[1:]))(x)
        z = x.clone().requires_grad_()
        again = torch.utils.checkpoint.checkpoint(layer, z, use_reentrant=True)
        sum(t.sum() for t in again).backward()
        found.append([*seen[:3], mapped, z.grad])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_sizes_of_layers_are_their_own() -> None:
    layer = kan.KANLayer(3, 4)
    # as in older pykan: one row of everything for each edge
    layer.coef = torch.nn.Parameter(layer.coef.detach().reshape(12, -1))
    assert pykan_layer.describe(layer) == "3 -> 4"


def test_a_grid_update_of_one_row_of_knots(double: None) -> None:
    plain = kan.KANLayer(3, 4)
    one_row_of_knots(plain)
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = torch.rand(60, 3) * 2 - 1
    for layer in (plain, fast):
        layer.update_grid_from_samples(x)
    close(plain.grid, fast.grid)
    close(plain(x)[0], fast(x)[0])
