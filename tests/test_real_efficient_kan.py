"""The real efficient-kan beside ours: public copies, or those that KAN_FAST_EFFICIENT_KAN names."""

from __future__ import annotations

import copy
from pathlib import Path

import beside
import pytest
import torch
from torch import nn

import kan_fast
from kan_fast.interop.adapters import efficient_kan

from peers import load_efficient_kan  # isort: skip

PATHS = beside.or_skip(beside.real_libraries.efficient_kan)


@pytest.fixture(params=PATHS, ids=lambda p: Path(p).stem)
def real(request):
    return load_efficient_kan(request.param)


def stack(layer, **kwargs) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(layer(4, 7, **kwargs), layer(7, 3, **kwargs))


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    return [y, *torch.autograd.grad(y.square().mean(), [x, *model.parameters()])]


def test_is_a_known_source(real) -> None:
    fingerprint = efficient_kan.fingerprint(real.forward, real.b_splines, real.scaled_spline_weight)
    assert fingerprint in efficient_kan.KNOWN_SOURCES


@pytest.mark.parametrize("standalone", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_and_gradients_agree(real, order, standalone, dtype) -> None:
    theirs = stack(real, spline_order=order, enable_standalone_scale_spline=standalone).to(dtype)
    ours = kan_fast.accelerate(copy.deepcopy(theirs), strict=True)
    x = torch.rand(60, 4, dtype=dtype) * 4 - 2
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[dtype]
    for a, b in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_state_dicts_are_interchangeable(real) -> None:
    theirs, ours = stack(real), stack(kan_fast.KANLinear)
    assert {n: t.shape for n, t in theirs.state_dict().items()} == {
        n: t.shape for n, t in ours.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(20, 4) * 3 - 1.5
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    theirs.load_state_dict(stack(kan_fast.KANLinear).state_dict())


def test_initial_values_for_a_seed() -> None:
    # other copies predate the Kaiming initialisation of the scaler in efficient-kan 7b6ce1c
    (path,) = (p for p in PATHS if "self.spline_scaler, a=" in Path(p).read_text())
    ours, theirs = stack(kan_fast.KANLinear), stack(load_efficient_kan(path))
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)


def test_update_grid_is_reproduced_exactly_by_the_drop_in(real) -> None:
    theirs = stack(real)
    ours = kan_fast.accelerate(copy.deepcopy(theirs))
    x = torch.randn(200, 4)
    for model in (ours, theirs):
        model[0].update_grid(x)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        # LAPACK rounds differently for memory aligned differently
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-4)


def test_our_update_grid_places_the_same_knots_and_keeps_the_function(real) -> None:
    theirs, ours = real(4, 7), kan_fast.KANLinear(4, 7)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(4000, 4) * 2 - 1
    before = ours(x)
    theirs_before = theirs(x)
    theirs.update_grid(x)
    ours.update_grid(x)
    torch.testing.assert_close(ours.grid, theirs.grid)
    ours_change = (ours(x) - before).square().mean().sqrt()
    theirs_change = (theirs(x) - theirs_before).square().mean().sqrt()
    assert ours_change < 0.05 * before.std()
    # efficient-kan multiplies the scaler in twice
    if not (theirs.spline_scaler == 1).all():
        assert theirs_change > ours_change


def test_200_adam_steps_agree(real) -> None:
    theirs = stack(real).double()
    ours = kan_fast.accelerate(copy.deepcopy(theirs))
    x = torch.rand(64, 4, dtype=torch.float64) * 2 - 1
    target = torch.sin(3 * x.sum(1, keepdim=True)).expand(-1, 3)
    losses = []
    for model in (ours, theirs):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        curve = []
        for _ in range(200):
            loss = (model(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        losses.append(curve)
    assert losses[0][-1] < 0.1 * losses[0][0]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-6, atol=0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
