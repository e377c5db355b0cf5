"""Grids of a data-parallel model stay the same on every rank."""

from __future__ import annotations

import copy
import sys

import beside
import pytest
import torch
from ranks import on_two_ranks

import kan_fast

PYKAN, _ = beside.or_why_not(beside.real_libraries.pykan)


def _models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    found = {"kan_fast": kan_fast.KAN([3, 4, 2])}
    if PYKAN:
        sys.path.append(PYKAN)
        import kan

        model = kan.KAN([3, 4, 2], auto_save=False)
        found["pykan"] = kan_fast.accelerate(model, strict=True)
    return found


def _data() -> torch.Tensor:
    return torch.randn(150, 3, generator=torch.Generator().manual_seed(1))


def _update(model: torch.nn.Module, x: torch.Tensor) -> None:
    if hasattr(model, "act_fun"):
        model.update_grid_from_samples(x)
    else:
        model(x, update_grid=True)


def _updated(rank: int) -> dict:
    # shares of different sizes
    share = _data()[:100] if rank == 0 else _data()[100:]
    found = {}
    for name, model in _models().items():
        with kan_fast.shared_grids():
            _update(model, share)
        found[name] = [t.detach().numpy() for t in model.state_dict().values()]
    return found


def test_ranks_agree_with_one_another_and_with_one_process() -> None:
    found = on_two_ranks(_updated)
    for name, model in _models().items():
        alone = copy.deepcopy(model)
        _update(alone, _data())
        for a, b, c in zip(
            found[0][name], found[1][name], alone.state_dict().values(), strict=True
        ):
            assert (a == b).all()
            torch.testing.assert_close(torch.from_numpy(a), c, rtol=1e-3, atol=1e-3)


def _computed_apart(rank: int) -> list:
    from kan_fast.layers import grid

    fit = grid.refit
    grid.refit = lambda *args: fit(*args) + 1e-3 * rank
    model = _models()["kan_fast"]
    with kan_fast.shared_grids():
        _update(model, _data()[75 * rank :][:75])
    return [t.detach().numpy() for t in model.state_dict().values()]


def test_ranks_agree_where_their_libraries_round_differently() -> None:
    first, second = on_two_ranks(_computed_apart)
    for a, b in zip(first, second, strict=True):
        assert (a == b).all()


def test_without_processes_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="must be initialised"):
        with kan_fast.shared_grids():
            pass
