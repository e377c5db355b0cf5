"""The Gram primitive, refinement, robust grid updates and the paper's regulariser."""

from __future__ import annotations

import pytest
import torch
from cases import make_case

import kan_fast
from kan_fast import reference
from kan_fast.errors import GridError, ShapeError
from kan_fast.ops.gram import edge_mean_size, edge_statistics, gram
from kan_fast.spec import WindowedBasis


@pytest.mark.parametrize("spline_order", range(8))
@pytest.mark.parametrize("knots", ["uniform", "random", "repeated"])
@pytest.mark.parametrize("activation", ["silu", "zero", "tanh"])
def test_gram_of_two_grids(spline_order: int, knots: str, activation: str) -> None:
    case = make_case(50, 3, 1, 4, spline_order, activation, torch.float64, knots)
    other = make_case(1, 3, 1, 9, spline_order, activation, torch.float64).knots
    x = case.x[:, [2, 0, 1]].t().contiguous().t()
    a = reference.features(x, case.knots, case.basis)
    b = reference.features(x, other, case.basis)
    expected = torch.einsum("rig,rih->igh", a, b)
    torch.testing.assert_close(gram(x, case.knots, case.basis, other), expected)


def test_gram_of_float32_sums_in_float64() -> None:
    case = make_case(100_000, 2, 1)
    found = gram(case.x, case.knots, case.basis)
    phi = reference.features(case.x, case.knots, case.basis).double()
    torch.testing.assert_close(found, torch.einsum("rig,rih->igh", phi, phi), rtol=1e-6, atol=1e-2)


def test_gram_gradients_first_and_second() -> None:
    case = make_case(9, 2, 1, dtype=torch.float64)
    other = make_case(1, 2, 1, 7, dtype=torch.float64).knots
    x = (torch.rand(9, 2, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    for second in (None, other):

        def of_x(x: torch.Tensor, second: torch.Tensor | None = second) -> torch.Tensor:
            return gram(x, case.knots, case.basis, second)

        assert torch.autograd.gradcheck(of_x, x)
        assert torch.autograd.gradgradcheck(of_x, x)


def test_not_finite_gives_nan_and_no_rows_give_zero() -> None:
    case = make_case(9, 2, 1)
    case.x[3, 1] = torch.inf
    found = gram(case.x, case.knots, case.basis)
    assert found[0].isfinite().all() and found[1].isnan().all()
    assert gram(case.x[:0], case.knots, case.basis).eq(0).all()


def edges(x, knots, weight, basis) -> torch.Tensor:
    """All edge functions, the tensor that the code under test never makes."""
    return torch.einsum("rig,oig->roi", reference.features(x, knots, basis), weight)


def test_edge_statistics_and_their_gradients() -> None:
    x = torch.rand(40, 3, dtype=torch.float64) * 1.8 - 0.9
    case = make_case(1, 3, 4, dtype=torch.float64)
    weight = reference.fold(*case.parameters()) + 3
    mean, variance = edge_statistics(x, case.knots, weight, case.basis)
    phi = edges(x, case.knots, weight, case.basis)
    torch.testing.assert_close(mean, phi.mean(0))
    torch.testing.assert_close(variance, phi.var(0, unbiased=False))
    torch.testing.assert_close(edge_mean_size(x, case.knots, weight, case.basis), phi.abs().mean(0))
    x.requires_grad_()
    weight.requires_grad_()
    for f in (
        lambda x, w: edge_statistics(x, case.knots, w, case.basis),
        lambda x, w: edge_mean_size(x, case.knots, w, case.basis),
    ):
        assert torch.autograd.gradcheck(f, (x, weight))
        assert torch.autograd.gradgradcheck(f, (x, weight))


@pytest.mark.parametrize("size", ["l1", "std"])
def test_activation_regularization_is_the_formula(size: str) -> None:
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(2, 50, 3) * 1.8 - 0.9
    loss = layer.activation_regularization_loss(x, 0.7, 0.3, size)
    weight = reference.fold(layer.spline_weight, layer.spline_scaler, layer.base_weight)
    phi = edges(x.reshape(-1, 3), layer.grid, weight, WindowedBasis(3))
    s = phi.abs().mean(0) if size == "l1" else phi.std(0, unbiased=False)
    p = s / s.sum()
    expected = 0.7 * s.sum() - 0.3 * (p * p.log()).sum()
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, list(layer.parameters()))
    for a, b in zip(found, torch.autograd.grad(expected, list(layer.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_pruned_edges_have_no_nan_gradient() -> None:
    model = kan_fast.KAN([3, 4, 2])
    with torch.no_grad():
        model.layers[0].spline_scaler[1] = 0
        model.layers[0].base_weight[1] = 0
    for size in ("l1", "std"):
        model.zero_grad()
        model.activation_regularization_loss(torch.rand(30, 3), size=size).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(ValueError, match="'l1' or 'std', got 'l2'"):
        model.activation_regularization_loss(torch.rand(30, 3), size="l2")
    with pytest.raises(ShapeError, match="at least one row"):
        model.activation_regularization_loss(torch.rand(0, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spline_order", range(8))
@pytest.mark.parametrize("moved", [False, True])
def test_refine_to_a_nested_grid_is_exact(dtype, spline_order: int, moved: bool) -> None:
    layer = kan_fast.KANLinear(3, 4, grid_size=4, spline_order=spline_order, dtype=dtype)
    if moved:
        layer.update_grid(torch.randn(500, 3, dtype=dtype))
    low, high = layer.grid[:, spline_order], layer.grid[:, -1 - spline_order]
    x = low + (high - low) * torch.rand(300, 3, dtype=dtype) * 0.999
    y = layer(x)
    layer.refine(12)
    assert layer.spline_weight.shape == (4, 3, 12 + spline_order)
    # the float32 knots of the two grids differ by a rounding
    rtol = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(layer(x), y, rtol=rtol, atol=rtol)


def test_refine_to_another_grid_is_near_and_trains() -> None:
    model = kan_fast.KAN([2, 5, 1], grid_size=5)
    x = torch.rand(200, 2) * 1.8 - 0.9
    y = model(x)
    model.refine(17)
    assert (model(x) - y).abs().max() < 0.02 * y.abs().max()
    model(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    # torch's LBFGS takes contiguous parameters alone
    assert all(p.is_contiguous() for p in model.parameters())
    torch.optim.LBFGS(model.parameters()).step(lambda: model(x).sum())
    model.refine(2)
    assert model(x).isfinite().all() and model.grid_size == 2
    with pytest.raises(GridError, match="at least 1, got 0"):
        model.refine(0)
    copy = kan_fast.KAN([2, 5, 1], grid_size=2)
    copy.load_state_dict(model.state_dict())


@pytest.mark.parametrize("what", ["ties", "constant", "one-hot", "nan", "one row", "huge"])
def test_robust_updates_take_any_data(what: str) -> None:
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(400, 3) * 1.6 - 0.8
    if what == "ties":
        x[:350, 0] = 0.25
    elif what == "constant":
        x[:, 1] = 0.5
    elif what == "one-hot":
        x = torch.eye(3)[torch.randint(3, (400,))]
    elif what == "nan":
        x[::7, 2] = torch.nan
        x[1, 0] = torch.inf
    elif what == "one row":
        x = x[:1]
    else:
        x *= 1e6
    inside = torch.rand(100, 3) * 0.4 + 0.1
    before = layer(inside)
    layer.update_grid(x, robust=True)
    assert layer.grid.isfinite().all() and (layer.grid.diff(dim=1) > 0).all()
    assert layer.spline_weight.isfinite().all() and layer(inside).isfinite().all()
    if what in ("ties", "nan"):
        assert (layer(inside) - before).abs().max() < 0.1 * before.abs().max()


def test_robust_updates_refuse_a_column_without_numbers() -> None:
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(50, 3)
    x[:, 1] = torch.nan
    with pytest.raises(GridError, match="none in column 1"):
        layer.update_grid(x, robust=True)
