"""A library that nobody knows, and all that it takes to support it: the adapter in this file, and
its place in `ADAPTERS`."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from efficient_kan_copies import VendoredKANLinear
from torch import Tensor, nn

import kan_fast
from kan_fast import convert, reference
from kan_fast.inspect.edges import edges_of
from kan_fast.interop import adapters, zero_code
from kan_fast.interop.adapters.base import (
    Adapter,
    are_plain,
    forward_keeps,
    has,
    is_trained,
    tensors_of,
)
from kan_fast.interop.adapters.self_check import differs
from kan_fast.interop.adapters.source import side_effects
from kan_fast.layers.edges import Edges, Splines
from kan_fast.ops.spline import kan_linear
from kan_fast.spec import WindowedBasis


class ToyKAN(nn.Module):
    """A layer as a library may have it: one row of knots, inputs first, names of its own."""

    def __init__(self, inputs: int, outputs: int, cells: int = 4, degree: int = 2) -> None:
        super().__init__()
        self.degree = degree
        ticks = torch.arange(-degree, cells + degree + 1) * (2 / cells) - 1
        self.register_buffer("ticks", ticks)
        self.bumps = nn.Parameter(0.3 * torch.randn(inputs, cells + degree, outputs))
        self.slope = nn.Parameter(torch.randn(inputs, outputs))

    def basis(self, x):
        t = self.ticks
        found = [((x >= a) & (x < b)).to(x.dtype) for a, b in zip(t, t[1:], strict=False)]
        for m in range(1, self.degree + 1):
            found = [
                (x - t[j]) / (t[j + m] - t[j]) * found[j]
                + (t[j + m + 1] - x) / (t[j + m + 1] - t[j + 1]) * found[j + 1]
                for j in range(len(found) - 1)
            ]
        return torch.stack(found, dim=-1)

    def forward(self, x):
        return torch.einsum("rig,igo->ro", self.basis(x), self.bumps) + torch.tanh(x) @ self.slope


class Toy(Adapter):
    """ToyKAN."""

    kind = "toy"
    methods = ("basis",)
    settings = ("degree",)
    tensors = ("ticks", "bumps", "slope")

    def is_candidate_class(self, cls: type[nn.Module]) -> bool:
        return issubclass(cls, ToyKAN)

    def is_candidate(self, module: nn.Module) -> bool:
        return all(has(module, name) for name in (*self.tensors, *self.settings))

    def why_not(self, module: Any) -> str | None:
        names = frozenset((*self.tensors, *self.settings, *self.methods))
        return side_effects(type(module), ("forward", "basis"), names) or differs(
            module, self._inputs, self._expected, self.kind, ("ticks",)
        )

    def _inputs(self, module: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn((32, len(module.bumps)), generator=generator, dtype=torch.float64)
        return torch.cat([rows, module.ticks.unsqueeze(1).expand(-1, len(module.bumps))])

    def _expected(self, module: Any, x: Tensor) -> Tensor:
        s = self.splines(module)
        basis = WindowedBasis(s.spline_order, s.activation)
        return reference.kan_linear(x, s.grid, s.spline_weight, None, s.base_weight, basis)

    def describe(self, module: Any) -> str:
        return f"{len(module.bumps)} -> {module.bumps.shape[-1]}"

    def prepare(self, module: Any) -> tuple | str:
        ticks, bumps, slope = tensors_of(module, self.tensors)
        if not are_plain(ticks, bumps, slope):
            return "a tensor of it is a subclass or no tensor"
        if is_trained(ticks):
            return "its ticks are trained"
        return bumps.permute(2, 0, 1), module.degree, ticks.expand(len(bumps), -1), slope.t()

    def run(self, module: Any, x: Tensor, ready: tuple, own: Any) -> Tensor:
        weight, order, knots, base = ready
        x, knots = forward_keeps(x, knots)
        return kan_linear(x, knots, weight, None, base, spline_order=order, base_activation="tanh")

    def edges(self, module: Any) -> Edges:
        return self.splines(module).edges()

    def splines(self, module: Any) -> Splines:
        ticks, bumps, slope = module.ticks, module.bumps, module.slope
        return Splines(
            ticks.expand(len(bumps), -1), bumps.permute(2, 0, 1), None, slope.t(),
            module.degree, "tanh",
        )  # fmt: skip


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the adapter had its line."""
    monkeypatch.setattr(adapters, "ADAPTERS", (*adapters.ADAPTERS, Toy()))


def inputs(rows: int = 20, dtype: torch.dtype = torch.float32) -> Tensor:
    # beyond both ends of the knots, too
    return 2 * torch.randn(rows, 3, dtype=dtype)


def test_nobody_else_has_to_be_told_of_a_library() -> None:
    package = Path(kan_fast.__file__).parent
    inside = package / "interop" / "adapters"
    libraries = {p.stem for p in inside.iterdir()} - {"__init__", "base", "guard", "__pycache__"}
    libraries -= {"self_check", "source"}
    assert {"pykan", "efficient_kan", "fast_kan", "chebykan", "ours"} <= libraries
    names = "|".join(libraries)
    for path in package.rglob("*.py"):
        if inside not in path.parents:
            found = re.findall(rf"adapters(?:\.| import )(?:{names})\b", path.read_text())
            assert not found, f"{path} imports {found}"


def test_without_its_line_it_is_a_stranger() -> None:
    model = nn.Sequential(ToyKAN(3, 4))
    found = kan_fast.report(kan_fast.accelerate(model))
    assert [s.kind for s in found.unrecognised] == ["ToyKAN"] and not found.accelerated
    assert edges_of(model[0]) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_result_and_every_gradient_are_its_own(known, dtype: torch.dtype) -> None:
    plain = nn.Sequential(ToyKAN(3, 5), ToyKAN(5, 2)).to(dtype)
    model = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    x = inputs(dtype=dtype)
    found = []
    for m in (plain, model):
        leaf = x.clone().requires_grad_()
        y = m(leaf)
        slopes = torch.autograd.grad(y.square().sum(), [leaf, *m.parameters()])
        found.append((y, *slopes))
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    runs = [layer.runs for layer in kan_fast.report(model).accelerated]
    assert [r.by.total() for r in runs] == [1, 1] and not any(r.own for r in runs)


def test_reports_list_it(known, capsys: pytest.CaptureFixture) -> None:
    model = nn.Sequential(ToyKAN(3, 4), nn.Tanh(), kan_fast.KANLinear(4, 1))
    before = kan_fast.report(model)
    assert [(s.name, s.kind) for s in before.skipped] == [("0", "toy")]
    assert "not accelerated yet" in before.skipped[0].reason and not before.unrecognised
    x = inputs()
    kan_fast.accelerate(model, strict=True)
    after = kan_fast.report(model)
    assert {(s.name, s.kind) for s in after.accelerated} == {("0", "toy"), ("2", "kan_fast")}
    assert "2 of 2 KAN layers accelerated" in capsys.readouterr().out
    lines = kan_fast.explain(model, x).splitlines()
    assert any(line.startswith("0: native (3 -> 4, spline_order=2") for line in lines)
    model[0].ticks.requires_grad_()
    line = next(s for s in kan_fast.explain(model, x).splitlines() if s.startswith("0:"))
    assert line == (
        "0: its own forward (3 -> 4, float32 on cpu): not accelerated: its ticks are trained"
    )


def test_it_is_met_in_code_that_nobody_changes(known) -> None:
    layer, x = ToyKAN(3, 4), inputs()
    own = layer(x)
    kan_fast.install(verify=1)
    try:
        torch.testing.assert_close(layer(x), own, rtol=1e-4, atol=1e-5)
        summary = zero_code.summary()
    finally:
        kan_fast.uninstall()
    assert "1 of 1 KAN layers accelerated (1 by native)" in summary
    assert "1 calls verified" in summary


def test_its_edges_add_up_and_are_drawn(known) -> None:
    layer = ToyKAN(3, 2).double()
    x = inputs(dtype=torch.float64)
    torch.testing.assert_close(edges_of(layer).values(x).sum(-1), layer(x))
    pytest.importorskip("scipy", reason="no SciPy")
    found = kan_fast.coefficients(layer)
    at = torch.linspace(-1, 0.999, 50, dtype=torch.float64)
    theirs = layer.basis(at.unsqueeze(1).expand(-1, 3))[:, 1] @ layer.bumps[1, :, 0]
    torch.testing.assert_close(torch.from_numpy(found[0, 1](at.numpy())), theirs)
    pytest.importorskip("matplotlib", reason="no matplotlib")
    (axes,) = kan_fast.plot(layer, x).axes
    assert len(axes.patches) == 6


def test_it_is_converted(known) -> None:
    model, x = nn.Sequential(ToyKAN(3, 5), ToyKAN(5, 2)), inputs()
    ours = convert.to_kan_fast(model)
    assert type(ours) is kan_fast.KAN
    torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)
    one = convert.to_efficient_kan(model[0], VendoredKANLinear)
    assert type(one) is VendoredKANLinear
    torch.testing.assert_close(one(x), model[0](x), rtol=1e-4, atol=1e-5)


def test_an_edit_makes_it_run_its_own_code(known, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = kan_fast.accelerate(ToyKAN(3, 4), strict=True), inputs()
    y = layer(x)
    (runs,) = [s.runs for s in kan_fast.report(layer).accelerated]
    assert runs.by.total() == 1
    base = torch.tanh(x) @ layer.slope
    doubled = 2 * (y - base) + base
    plain = ToyKAN.basis
    layer.basis = lambda x: 2 * plain(layer, x)
    torch.testing.assert_close(layer(x), doubled, rtol=1e-4, atol=1e-5)
    assert dict(runs.own) == {"this instance has a basis of its own": 1}
    del layer.basis
    torch.testing.assert_close(layer(x), y)
    assert runs.by.total() == 2 and runs.own.total() == 1
    with monkeypatch.context() as patch:
        patch.setattr(ToyKAN, "basis", lambda self, x: 2 * plain(self, x))
        torch.testing.assert_close(layer(x), doubled, rtol=1e-4, atol=1e-5)
    assert runs.by.total() == 2 and runs.own.total() == 2
    layer.ticks.requires_grad_()
    torch.testing.assert_close(layer(x), y, rtol=1e-4, atol=1e-5)
    assert runs.own["its ticks are trained"] == 1
    layer.ticks.requires_grad_(False)
    torch.testing.assert_close(layer(x), y)
    assert runs.by.total() == 3 and runs.own.total() == 3
    layer.forward = lambda x: x[:, :1]
    assert torch.equal(layer(x), x[:, :1])
    (skipped,) = kan_fast.report(layer).skipped
    assert skipped.reason == "this instance has a forward of its own" and skipped.runs is runs
