"""bench/outcomes.py at a size where rounding has not grown yet."""

from __future__ import annotations

from pathlib import Path

import beside
import pytest

beside.pykan()
for find in ("efficient_kan", "fast_kan", "cheby_kan"):
    beside.or_skip(getattr(beside.real_libraries, find))

import outcomes  # noqa: E402

CASES = outcomes.cases()


@pytest.mark.parametrize("library", CASES)
def test_ten_steps_lead_to_the_same_losses(library: str, tmp_path: Path) -> None:
    row = outcomes.measure(*CASES[library], seeds=1, steps=10)
    assert len(row["loss_median_by_step"]) == 10
    assert row["perturbed"]["curve"] != [0.0]
    assert row["accelerated"]["curve"][0] < (0.1 if library == "pykan" else 1e-4)
    assert outcomes.line(library, row).count("|") == 9
    outcomes.plot({library: row}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_distances_of_curves() -> None:
    inf = float("inf")
    assert outcomes.gaps([1.0, 10.0, 1e-20], [10.0, 1.0, 1e-13]) == [1.0, 1.0, 0.0]
    assert outcomes.gaps([inf, inf], [inf, 1.0]) == [0.0, inf]
