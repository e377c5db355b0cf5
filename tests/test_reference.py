"""The oracle against SciPy, against automatic differentiation, and against what splines are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import make_case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from kan_fast import reference
from kan_fast.layers.grid import uniform_knots

ORDERS = range(8)


@pytest.mark.parametrize("derivative", range(6))
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("knots", ["uniform", "per-feature"])
def test_equals_scipy(order: int, derivative: int, knots: str) -> None:
    case = make_case(200, 3, 1, 4, order, dtype=torch.float64, knots=knots)
    ours = reference.bspline_basis(case.x, case.knots, order, derivative)
    for i in range(3):
        t = case.knots[i].numpy()
        x = case.x[:, i].numpy()
        inside = (x >= t[0]) & (x < t[-1])
        for g in range(4 + order):
            spline = BSpline.basis_element(t[g : g + order + 2], extrapolate=False)
            if derivative <= order:
                theirs = spline.derivative(derivative)(x) if derivative else spline(x)
                # basis_element is defined on its closed support only
                theirs = np.where((x >= t[g]) & (x < t[g + order + 1]), theirs, 0.0)
            else:
                theirs = np.zeros_like(x)
            scale = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(
                ours[:, i, g].numpy()[inside], theirs[inside], atol=1e-10 * scale
            )


@pytest.mark.parametrize("order", ORDERS)
def test_derivatives_equal_autograd(order: int) -> None:
    case = make_case(50, 2, 1, 4, order, dtype=torch.float64, knots="per-feature")
    x = case.x.requires_grad_()
    for derivative in range(min(order, 4)):
        lower = reference.bspline_basis(x, case.knots, order, derivative)
        upper = reference.bspline_basis(x, case.knots, order, derivative + 1)
        weight = torch.randn(lower.shape, dtype=torch.float64)
        (slope,) = torch.autograd.grad((lower * weight).sum(), x)
        torch.testing.assert_close(slope, (upper * weight).sum(-1), rtol=1e-8, atol=1e-8)


@given(
    order=st.integers(0, 7),
    grid_size=st.integers(1, 30),
    seed=st.integers(0, 2**31),
    repeated=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_is_a_partition_of_unity(order: int, grid_size: int, seed: int, repeated: bool) -> None:
    torch.manual_seed(seed)
    kind = "repeated" if repeated and order > 0 else "per-feature"
    case = make_case(40, 2, 1, grid_size, order, dtype=torch.float64, knots=kind)
    basis = reference.bspline_basis(case.x, case.knots, order)
    assert (basis >= -1e-12).all()
    low, high = case.knots[:, order], case.knots[:, -1 - order]
    inside = (case.x >= low) & (case.x < high)
    torch.testing.assert_close(
        basis.sum(-1)[inside], torch.ones_like(case.x)[inside], rtol=0, atol=1e-10
    )
    outside = (case.x < case.knots[:, 0]) | (case.x >= case.knots[:, -1])
    assert (basis[outside] == 0).all()
    # no more than order + 1 functions are active at a point
    assert ((basis != 0).sum(-1) <= order + 1).all()


def test_non_finite_inputs_give_nan() -> None:
    knots = uniform_knots(1, 5, 3, (-1, 1), dtype=torch.float64)
    x = torch.tensor([[float("nan")], [float("inf")], [-float("inf")], [0.1]], dtype=torch.float64)
    basis = reference.bspline_basis(x, knots, 3)
    assert basis[:3].isnan().all()
    assert basis[3].isfinite().all()


@pytest.mark.parametrize("name", list(reference.activation.__globals__["FUNCTIONS"]))
def test_activation_derivatives_by_finite_differences(name: str) -> None:
    x = torch.linspace(-3, 3, 30, dtype=torch.float64)
    h = 1e-5
    for d in range(5):
        exact = reference.activation(name, x, d + 1)
        numeric = reference.activation(name, x + h, d) - reference.activation(name, x - h, d)
        torch.testing.assert_close(exact, numeric / (2 * h), rtol=1e-5, atol=1e-6)
