"""The native contractions against the oracle: values and gradients, by the tolerance rule."""

from __future__ import annotations

import pytest
import torch
from cases import Case, make_case, strided
from judge import compare, compare_contractions, layer_and_gradients, native, native_kernels, on

from kan_fast import reference
from kan_fast.backends.layer import Layer
from kan_fast.spec import ACTIVATIONS, MAX_DERIVATIVE, WindowedBasis

DTYPES = [torch.float32, torch.float64]


SHAPES = [
    # rows, in, out, grid_size: 1, odd, prime, below and above every tile and block
    (1, 1, 1, 1),
    (1, 5, 3, 5),
    (7, 2, 5, 5),
    (131, 3, 1, 5),
    (65, 17, 4, 3),
    (300, 5, 8, 8),
    (129, 4, 33, 5),
    (257, 19, 67, 5),
    (70, 40, 530, 4),
    (1500, 3, 20, 100),
    (40, 37, 128, 20),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_shapes(shape: tuple[int, ...], dtype: torch.dtype, isa: str) -> None:
    compare(make_case(*shape, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("knots", ["uniform", "per-feature", "repeated"])
@pytest.mark.parametrize("order", range(8))
def test_orders_and_knots(order: int, knots: str, dtype: torch.dtype, isa: str) -> None:
    if order == 0 and knots == "repeated":
        knots = "per-feature"  # a repeated knot takes its function away
    for grid_size, out_features in [(4, 9), (60, 2)]:
        compare(make_case(143, 5, out_features, grid_size, order, dtype=dtype, knots=knots))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations(activation: str, dtype: torch.dtype, isa: str) -> None:
    compare(make_case(77, 3, 10, activation=activation, dtype=dtype))


@pytest.mark.parametrize("derivative", [0, 1])
@pytest.mark.parametrize(
    "rows, copies", [(2, 1), (300, 1), (300, 9)], ids=["few", "narrow", "wide"]
)
@pytest.mark.parametrize("order", range(1, 8))
def test_small_values_keep_their_digits(
    order: int, rows: int, copies: int, derivative: int, isa: str
) -> None:
    """A function that is nearly zero is right relative to itself, as the recurrence has it: Adam
    divides a gradient by its own size, so that its noise would move a coefficient."""
    inner = torch.tensor([-1.0, -0.6, -0.2, 0.1, 0.7, 1.0])
    step = 0.4 * torch.arange(1.0, order + 1)
    knots = torch.cat([-1 - step.flip(0), inner, 1 + step]).unsqueeze(0)
    num_basis = knots.shape[1] - 1 - order
    width = 10 ** (-6 * torch.rand(rows, generator=torch.Generator().manual_seed(order)))
    at = torch.arange(rows) % (knots.shape[1] - 1)
    left, right = knots[0, at], knots[0, at + 1]
    x = torch.where(torch.arange(rows) % 2 == 0, left + width * (right - left) * 0.4,
                    right - width * (right - left) * 0.4)  # fmt: skip
    x = x.clamp(knots[0, 0], knots[0, -1].nextafter(torch.tensor(0.0))).unsqueeze(1)
    weight = torch.eye(num_basis).repeat(copies, 1).unsqueeze(1)
    basis = WindowedBasis(order, "zero")
    found = native_kernels.out(x, None, Layer(knots, weight, None, None, basis), derivative)
    wanted = reference.bspline_basis(x.double(), knots.double(), order, derivative)[:, 0]
    wanted = wanted.repeat(1, copies)
    cell = (x >= knots).sum(-1, keepdim=True) - 1
    number = torch.arange(num_basis)
    # the derivatives of others are differences of what cancels
    end = (derivative == 0) | (number == cell) | (number == cell - order)
    ends = (wanted.abs() > 1e-30) & end.repeat(1, copies)
    assert ends.sum() > copies * rows / 2
    off = ((found - wanted) / wanted)[ends].abs().max()
    assert off <= 5 * (order + 1) * torch.finfo(x.dtype).eps
    assert (found[wanted == 0] == 0).all()


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("base", [True, False], ids=["base", "no-base"])
def test_absent_parameters(scaler: bool, base: bool) -> None:
    compare(make_case(50, 4, 6, scaler=scaler, base=base))


@pytest.mark.parametrize("rows", [5000, 20011])
def test_long_sums(rows: int, isa: str) -> None:
    # gradients of the weights are sums over the rows; outputs over 9 * 600 terms
    compare(make_case(rows, 2, 12))
    compare(make_case(64, 600, 12))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("derivative", range(MAX_DERIVATIVE + 1))
@pytest.mark.parametrize("order", range(8))
def test_contractions_of_every_derivative(
    order: int, derivative: int, dtype: torch.dtype, isa: str
) -> None:
    activation = list(ACTIVATIONS)[order % 6]
    case = make_case(61, 3, 7, 4, order, activation, dtype, knots="per-feature")
    u = torch.randn(61, 7, dtype=dtype)
    v = torch.randn(61, 3, dtype=dtype)
    compare_contractions(case, u, v, derivative)


@pytest.mark.parametrize("how", ["transposed", "sliced", "offset"])
@pytest.mark.parametrize("out_features", [5, 16])
def test_strides_change_nothing(how: str, out_features: int, isa: str) -> None:
    case = make_case(50, 6, out_features)
    u = torch.randn(50, out_features)
    plain = layer_and_gradients(case, u, on(native))
    moved = Case(
        strided(case.x, how), strided(case.knots, how), case.spline_weight,
        strided(case.spline_scaler, how), strided(case.base_weight, how), case.basis,
    )  # fmt: skip
    for name, result in layer_and_gradients(moved, strided(u, how), on(native)).items():
        assert torch.equal(result, plain[name]), name


def test_expanded_gradient_and_input(isa: str) -> None:
    case = make_case(9, 4, 21)
    layer = case.layer()
    x = case.x[:1].expand(30, -1)
    y = native_kernels.out(x, None, layer, 0)
    assert torch.equal(y, native_kernels.out(x.contiguous(), None, layer, 0))
    u = torch.ones(()).expand(30, 21)
    need = (True, True, True, True)
    for a, b in zip(
        native_kernels.in_weight(x, u, None, layer, 1, 0, need),
        native_kernels.in_weight(x.contiguous(), u.contiguous(), None, layer, 1, 0, need),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(4096, 2, 3), (1000, 40, 70)], ids=str)
def test_repeats_are_bitwise_equal(shape: tuple[int, int, int]) -> None:
    case = make_case(*shape)
    u = torch.randn(shape[0], shape[2])
    first = layer_and_gradients(case, u, on(native))
    for _ in range(20):
        for name, result in layer_and_gradients(case, u, on(native)).items():
            assert torch.equal(result, first[name]), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_rows_stay_in_their_row(bad: float, isa: str) -> None:
    case = make_case(200, 3, 5)
    clean = on(native)(case.x, case.knots, *case.parameters(), case.basis)
    case.x[17, 1] = bad
    ours = layer_and_gradients(case, torch.ones(200, 5), on(native))
    theirs = layer_and_gradients(case, torch.ones(200, 5), reference.kan_linear)
    assert ours["y"][17].isnan().all()
    rest = [r for r in range(200) if r != 17]
    assert torch.equal(ours["y"][rest], clean[rest])
    # the loss is lost, and so is every coefficient that the row could have touched
    for name in ("spline_weight", "base_weight"):
        assert torch.equal(ours[name].isfinite(), theirs[name].isfinite()), name
    assert ours["x"][rest].isfinite().all()


def test_knots_that_change_in_place_are_noticed() -> None:
    case = make_case(30, 2, 4)
    native_kernels.out(case.x, None, case.layer(), 0)
    # behind torch's back: no version counter moves
    case.knots.numpy()[:] *= 1.5
    ours = native_kernels.out(case.x, None, case.layer(), 0)
    torch.testing.assert_close(
        ours, reference.kan_linear(case.x, case.knots, *case.parameters(), case.basis)
    )
