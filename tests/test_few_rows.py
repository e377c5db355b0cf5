"""A handful of rows: weights are read where they are, so nothing is kept and every edit counts."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import make_case
from efficient_kan_copies import ViewKANLinear
from judge import native_kernels

import kan_fast
from kan_fast import reference
from kan_fast.testing import VALUE_FACTOR, assert_within_tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("knots", ["uniform", "random", "repeated"])
@pytest.mark.parametrize(
    "grid_size, spline_order", [(3, 0), (5, 1), (6, 2), (5, 3), (20, 3), (40, 3), (4, 7)]
)
@pytest.mark.parametrize(
    "rows, in_features, out_features", [(1, 70, 130), (2, 65, 5), (3, 1, 64), (1, 3, 1)]
)
@pytest.mark.parametrize("derivative", [0, 1])
def test_few_rows_give_the_layer(
    isa, dtype, knots, grid_size, spline_order, rows, in_features, out_features, derivative
) -> None:
    case = make_case(
        rows, in_features, out_features, grid_size, spline_order, dtype=dtype, knots=knots
    )
    if derivative > spline_order:
        pytest.skip("the derivative of the splines is zero")
    v = torch.randn_like(case.x) if derivative else None
    layer = (case.knots, *case.parameters())
    y = native_kernels.out(case.x, v, case.layer(), derivative)

    def plain(x: torch.Tensor, layer: tuple, v: torch.Tensor | None) -> torch.Tensor:
        def at(x: torch.Tensor) -> torch.Tensor:
            return reference.kan_linear(x, *layer, case.basis)

        return at(x) if v is None else torch.func.jvp(at, (x,), (v,))[1]

    wide = case.to(torch.float64)
    truth = plain(wide.x, (wide.knots, *wide.parameters()), None if v is None else v.double())
    yardstick = plain(case.x, layer, v)
    # where the truth is float64 itself, it is known to a few roundings of its terms
    doubt = 256 * torch.finfo(torch.float64).eps * truth.abs().max().item()
    assert_within_tolerance("y", y, truth, yardstick, 4 * VALUE_FACTOR, doubt)


def test_strided_rows_and_nan() -> None:
    layer = kan_fast.KANLinear(6, 5)
    x = torch.rand(12, 8)[::3, 1:7]
    x[2, 4] = torch.nan
    with torch.no_grad():
        y = layer(x)
        many = layer(x.repeat(200, 1))[:4]
        one = torch.cat([layer(row) for row in x.split(1)])
    assert y[2].isnan().all() and y[[0, 1, 3]].isfinite().all()
    torch.testing.assert_close(y, many, equal_nan=True)
    torch.testing.assert_close(one, many, equal_nan=True)


def test_a_neighbour_s_infinite_weight_stays_there() -> None:
    for order in range(5):
        layer = kan_fast.KANLinear(3, 2, grid_size=4, spline_order=order)
        x = torch.full((1, 3), 0.97)
        with torch.no_grad():
            # functions that are zero at x, beside those that are not, of the next edge too
            layer.spline_weight[:, :, 0] = torch.inf
            assert layer(x).isfinite().all(), order


LAYERS = {
    "layer": lambda: kan_fast.KANLinear(6, 5),
    "network": lambda: kan_fast.KAN([6, 7, 5]),
    "efficient-kan": lambda: kan_fast.accelerate(ViewKANLinear(6, 5)),
}
EDITS = {
    "in place": lambda t, i: t.view(-1)[i].add_(0.3),
    "through data": lambda t, i: t.data.view(-1)[i].add_(0.3),
    "through numpy": lambda t, i: t.detach().numpy().reshape(-1).__setitem__(i, 0.3),
    "through shared memory": lambda t, i: torch.frombuffer(
        t.detach().numpy(), dtype=t.dtype
    ).__setitem__(i, 0.3),
    "new memory": lambda t, i: setattr(t, "data", t.data * 1.5),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rows", [1, 8, 16])
def test_an_edit_of_one_number_counts(kind: str, edit: str, rows: int) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    x = torch.rand(rows, 6) - 0.5
    with torch.no_grad():
        for name in ("spline_weight", "spline_scaler", "base_weight"):
            tensor = next(t for n, t in layer.named_parameters() if n.endswith(name))
            layer(x)
            # a function that is not zero where x is
            EDITS[edit](tensor, 3 if name == "spline_weight" else 1)
            expected = copy.deepcopy(layer)(x)
            torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)


def test_training_between_evaluations() -> None:
    layer = kan_fast.KANLinear(6, 5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.rand(2, 6) - 0.5
    for _ in range(3):
        with torch.no_grad():
            evaluated = layer(x)
        trained = layer(x)
        torch.testing.assert_close(evaluated, trained.detach())
        optimizer.zero_grad()
        trained.square().sum().backward()
        optimizer.step()


def test_parameters_born_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = kan_fast.KANLinear(6, 5)
        x = torch.rand(1, 6) - 0.5
        y = layer(x)
        layer.spline_weight.mul_(2)
        assert not torch.equal(layer(x), y)
