"""The README's table of features is what `bench/features.py` found, and ours still holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))

import features  # noqa: E402

RESULT = json.loads((ROOT / "bench/results/features.json").read_text())["libraries"]
#: cells that depend on pykan being there, and on torch's version
ELSEWHERE = ("pruning, formulas", "peak of a step, 1000 rows of 32-32")


def test_the_readme_has_the_table() -> None:
    assert features.markdown(RESULT) in (ROOT / "README.md").read_text()


def test_every_question_was_asked_of_every_library() -> None:
    assert all(list(column) == list(features.CHECKS) for column in RESULT.values())


@pytest.mark.parametrize("question", [q for q in features.CHECKS if q not in ELSEWHERE])
def test_our_column(question: str) -> None:
    found = features.check(features.kan_fast.KANLinear, question)[question]
    assert found["cell"] == RESULT["kan_fast"][question]["cell"], found


def test_a_wrong_result_is_a_no() -> None:
    class Doubling(features.kan_fast.KANLinear):
        def forward(self, x):
            return super().forward(x) * (2 if x.dim() > 2 else 1)

    question = "leading dimensions, as `nn.Linear`"
    found = features.check(Doubling, question)[question]
    assert found["cell"] == "no" and "off by" in found["why"]
