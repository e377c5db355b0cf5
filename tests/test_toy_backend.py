"""A backend from outside the package: one file, and one line that registers it."""

from __future__ import annotations

from collections.abc import Iterator

import beside
import pytest
import torch
from cases import make_case
from judge import compare, compare_contractions
from torch import Tensor

import kan_fast
from kan_fast import envs, reference
from kan_fast.backends import BACKENDS, plain
from kan_fast.backends.base import Backend, Kernels
from kan_fast.backends.layer import Gradients, Layer
from kan_fast.cli import doctor, info
from kan_fast.ops.plan import plan_for
from kan_fast.spec import Machine, Problem

from peers import load_classes  # isort: skip


class ToyKernels(Kernels):
    """The contractions by torch, written to the outputs that a backend is given."""

    def __init__(self) -> None:
        self.launches: list[str] = []

    def _launch_out(
        self, x: Tensor, v: Tensor | None, layer: Layer, derivative: int, y: Tensor
    ) -> None:
        self.launches.append("out")
        y.copy_(plain.out(x, v, layer, derivative))

    def _launch_in_weight(
        self,
        x: Tensor,
        u: Tensor,
        v: Tensor | None,
        layer: Layer,
        derivatives: tuple[int, int],
        found: Gradients,
    ) -> None:
        self.launches.append("in_weight")
        need = tuple(t is not None for t in found)
        for into, value in zip(
            found, plain.in_weight(x, u, v, layer, *derivatives, need), strict=True
        ):
            if into is not None:
                into.copy_(value)


class Toy(Backend):
    name = "toy"
    title = "toy"
    device = "cpu"

    def __init__(self) -> None:
        self.of_splines = ToyKernels()

    def missing(self, problem: Problem, facts: Machine) -> str | None:
        return None if problem.asked else "the toy is for those who ask for it"

    def kernels(self, weight: Tensor, product_dtype: torch.dtype | None = None) -> ToyKernels:
        return self.of_splines


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    backend = Toy()
    monkeypatch.setitem(BACKENDS, Toy.name, backend)
    yield backend


def test_the_plan_has_it_and_says_why_not(toy: Toy) -> None:
    x, weight = torch.rand(5, 3), torch.rand(4, 3, 8)
    assert plan_for(x, weight, 3, "toy").backend == "toy"
    assert plan_for(x, weight, 3).backend != "toy"
    with pytest.raises(kan_fast.BackendUnavailable, match="spline_order 7"):
        plan_for(x, torch.rand(4, 3, 30), 9, "toy")
    facts = Machine(extension=None)
    asked = Problem("cuda", "float32", 3, asked=True)
    assert "run on cpu tensors, got cuda" in toy.why_not(asked, facts)
    assert "int8" in toy.why_not(Problem("cpu", "int8", 3, asked=True), facts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_layers_and_all_gradients(toy: Toy, dtype: torch.dtype) -> None:
    compare(make_case(40, 3, 6).to(dtype), toy)
    compare(make_case(0, 3, 6).to(dtype), toy)
    assert {"out", "in_weight"} == set(toy.of_splines.launches)


def test_contractions_of_derivatives(toy: Toy) -> None:
    case = make_case(30, 3, 6, dtype=torch.float64)
    u, v = torch.randn(30, 6).double(), torch.randn(30, 3).double()
    for derivative in (0, 2):
        compare_contractions(case, u, v, derivative, backend=toy)


def test_second_derivatives_and_transforms(toy: Toy) -> None:
    case = make_case(5, 2, 3, 4, 4, dtype=torch.float64)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return kan_fast.kan_linear(x, case.knots, weight, spline_order=4, backend="toy")

    leaves = [case.x.requires_grad_(), case.spline_weight.requires_grad_()]
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)
    tangents = tuple(torch.randn_like(t) for t in leaves)
    ours = torch.func.jvp(run, tuple(leaves), tangents)
    theirs = torch.func.jvp(
        lambda x, w: reference.kan_linear(x, case.knots, w, None, None, case.basis),
        tuple(leaves),
        tangents,
    )
    torch.testing.assert_close(ours, theirs)


def test_a_network_runs_on_it(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = kan_fast.KAN([3, 5, 2]).double(), torch.rand(20, 3).double()
    wanted = model(x)
    monkeypatch.setattr(envs, "BACKEND", "toy")
    found = model(x)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    assert toy.of_splines.launches == ["out", "out", "in_weight", "in_weight"]
    assert "toy" in kan_fast.explain(model, x)


def test_doctor_and_info_list_it(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "missing", lambda *_: None)
    found = [f for f in doctor.examine() if f.backend == "toy"]
    assert found and {f.verdict for f in found} <= {"PASS", "SKIP"}
    assert "PASS" in {f.verdict for f in found}
    assert any(key.startswith("toy") for key in info.collect()["backends"])


def test_a_backend_of_splines_alone_is_not_counted_for_other_layers(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    chebykan = load_classes(beside.or_skip(beside.real_libraries.cheby_kan)).ChebyshevKANLayer
    layer, x = kan_fast.accelerate(chebykan(3, 2, 3), strict=True), torch.rand(5, 3)
    monkeypatch.setattr(envs, "BACKEND", "toy")
    layer(x)
    (found,) = (*kan_fast.report(layer).accelerated, *kan_fast.report(layer).skipped)
    assert found.runs.own == {"the backend toy has kernels of splines alone": 1}
    assert not found.runs.by
