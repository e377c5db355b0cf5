"""bench/outcomes.py at a size where rounding has not grown yet."""

from __future__ import annotations

import copy
from pathlib import Path

import beside
import pytest
import torch

beside.pykan()
for find in ("efficient_kan", "fast_kan", "cheby_kan"):
    beside.or_skip(getattr(beside.real_libraries, find))

import outcomes  # noqa: E402

CASES = outcomes.cases()


@pytest.mark.parametrize("library", CASES)
def test_a_few_steps_lead_to_the_same_losses(library: str, tmp_path: Path) -> None:
    steps = 3 if library == "pykan" else 10  # whose steps are twenty each
    row = outcomes.measure(*CASES[library], seeds=1, steps=steps)
    assert len(row["loss_median_by_step"]) == steps
    assert row["accelerated"]["curve"][0] < (0.5 if library == "pykan" else 1e-4)
    assert outcomes.line(library, row).count("|") == 11
    outcomes.plot({library: row}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_perturbation_moves_what_is_trained_by_a_rounding_or_so() -> None:
    layer = torch.nn.Linear(40, 30)
    layer.bias.requires_grad_(False)
    moved = outcomes.perturbed(copy.deepcopy(layer), 0)
    assert not torch.equal(moved.weight, layer.weight)
    torch.testing.assert_close(moved.weight, layer.weight, rtol=1e-6, atol=0)
    assert torch.equal(moved.bias, layer.bias)


def test_distances_of_curves() -> None:
    inf = float("inf")
    assert outcomes.gaps([1.0, 10.0, 1e-20], [10.0, 1.0, 1e-13]) == [1.0, 1.0, 0.0]
    assert outcomes.gaps([inf, inf], [inf, 1.0]) == [0.0, inf]
