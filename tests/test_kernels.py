"""The native contractions against the oracle: values and gradients, by the tolerance rule."""

from __future__ import annotations

import os

import pytest
import torch
from cases import Case, make_case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kan_fast import reference
from kan_fast.backends import native
from kan_fast.spec import ACTIVATIONS, MAX_DERIVATIVE
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance

#: KAN_FAST_EXAMPLES=10000 is a long run
EXAMPLES = int(os.environ.get("KAN_FAST_EXAMPLES", "80"))
DTYPES = [torch.float32, torch.float64]


def layer_and_gradients(case: Case, u: Tensor, run) -> dict[str, Tensor]:
    """y and the gradients of x and every parameter, through autograd."""
    leaves = {"x": case.x, "spline_weight": case.spline_weight}
    leaves |= {"spline_scaler": case.spline_scaler, "base_weight": case.base_weight}
    leaves = {n: t.clone().requires_grad_() for n, t in leaves.items() if t is not None}
    y = run(
        leaves["x"], case.knots, leaves["spline_weight"], leaves.get("spline_scaler"),
        leaves.get("base_weight"), case.basis,
    )  # fmt: skip
    gradients = torch.autograd.grad(y, list(leaves.values()), u)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def oracle(case: Case, u: Tensor) -> dict[str, Tensor]:
    """The same by the formulas of docs/math.md in float64.

    Not by automatic differentiation of the recurrence, which in float64 was seen to be a hundred
    times less accurate than the kernels (checked with 40 digits).
    """
    case, u = case.to(torch.float64), u.double()
    weight = reference.layer.fold(*case.parameters())
    phi = reference.features(case.x, case.knots, case.basis)
    slope = reference.features(case.x, case.knots, case.basis, 1)
    folded = reference.contract_weight(phi, u)
    return by_name(case, phi, slope, weight, u, folded)


def by_name(
    case: Case, phi: Tensor, slope: Tensor, weight: Tensor, u: Tensor, folded: Tensor
) -> dict[str, Tensor]:
    spline, scaler = folded[..., :-1], case.spline_scaler
    return {
        "y": reference.contract_out(phi, weight),
        "x": reference.contract_in(slope, weight, u),
        "spline_weight": spline if scaler is None else spline * scaler.unsqueeze(-1),
        "spline_scaler": (spline * case.spline_weight).sum(-1),
        "base_weight": folded[..., -1],
    }


#: from so many numbers on, the largest error of the yardstick is no matter of luck
ENOUGH_NUMBERS = 100


def doubts(case: Case, u: Tensor) -> dict[str, float]:
    """What the rule cannot know, on the scale of the terms, were none to cancel.

    The truth is rounded in float64 itself; and the largest error of a yardstick of few numbers may
    happen to be zero, so there one rounding of the terms in the dtype under test is allowed.
    """
    few = torch.finfo(case.x.dtype).eps
    case, u = case.to(torch.float64), u.double().abs()
    weight = reference.layer.fold(*case.parameters()).abs()
    # a function near its zero is a difference of numbers of the size of its neighbours, a base
    # activation of numbers of size one
    sizes = []
    for derivative in (0, 1):
        value = reference.features(case.x, case.knots, case.basis, derivative).abs()
        splines = value[..., :-1].amax(-1, keepdim=True).expand(value[..., :-1].shape)
        sizes.append(torch.cat([splines, value[..., -1:].clamp_min(1)], dim=-1))
    phi, slope = sizes
    sums = by_name(case, phi, slope, weight, u, reference.contract_weight(phi, u))
    eps = torch.finfo(torch.float64).eps
    return {
        n: (4 * eps + (few if t.numel() < ENOUGH_NUMBERS else 0.0)) * float(t.abs().max())
        for n, t in sums.items()
        if t.numel()
    }


def compare(case: Case) -> None:
    u = torch.randn(case.x.shape[0], case.spline_weight.shape[0], dtype=case.x.dtype)
    ours = layer_and_gradients(case, u, native.kan_linear)
    yardstick = layer_and_gradients(case, u, reference.kan_linear)
    truth, doubt = oracle(case, u), doubts(case, u)
    for name, result in ours.items():
        factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
        assert_within_tolerance(
            name, result, truth[name], yardstick[name], factor, doubt.get(name, 0)
        )


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
    layer = (case.knots, case.spline_weight, case.spline_scaler, case.base_weight, case.basis)
    ours = {
        "out": native.out(case.x, v, *layer, derivative),
        "in": native.in_weight(
            case.x, u, v, *layer, derivative, 0, (True, False, False, False)
        )[0],
        "weight": torch.cat(
            [
                t.reshape(7, 3, -1)
                for t in native.weight(
                    case.x, u, v, case.knots, case.spline_weight.shape, True, case.basis, derivative
                )
            ],
            dim=-1,
        ),
    }  # fmt: skip

    def oracle(c: Case, u: Tensor, v: Tensor) -> dict[str, Tensor]:
        phi = reference.features(c.x, c.knots, c.basis, derivative)
        weight = reference.layer.fold(*c.parameters())
        return {
            "out": reference.contract_out(phi, weight, v),
            "in": reference.contract_in(phi, weight, u),
            "weight": reference.contract_weight(phi, u, v),
        }

    truth = oracle(case.to(torch.float64), u.double(), v.double())
    yardstick = oracle(case, u, v)
    for name, result in ours.items():
        assert_within_tolerance(name, result, truth[name], yardstick[name], GRADIENT_FACTOR)


@given(
    rows=st.integers(0, 400),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 90),
    grid_size=st.integers(1, 70),
    order=st.integers(0, 7),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(DTYPES),
    knots=st.sampled_from(["uniform", "per-feature"]),
    threads=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything(
    rows: int, in_features: int, out_features: int, grid_size: int, order: int, seed: int,
    dtype: torch.dtype, knots: str, threads: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compare(
            make_case(rows, in_features, out_features, grid_size, order, dtype=dtype, knots=knots)
        )
    finally:
        torch.set_num_threads(before)


def strided(t: Tensor, how: str) -> Tensor:
    """The same values under other strides."""
    if how == "transposed":
        return t.t().contiguous().t()
    if how == "sliced":
        return torch.stack([t, t + 1], dim=-1)[..., 0]
    if how == "offset":
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)
    return t


@pytest.mark.parametrize("how", ["transposed", "sliced", "offset"])
@pytest.mark.parametrize("out_features", [5, 16])
def test_strides_change_nothing(how: str, out_features: int, isa: str) -> None:
    case = make_case(50, 6, out_features)
    u = torch.randn(50, out_features)
    plain = layer_and_gradients(case, u, native.kan_linear)
    moved = Case(
        strided(case.x, how), strided(case.knots, how), case.spline_weight,
        strided(case.spline_scaler, how), strided(case.base_weight, how), case.basis,
    )  # fmt: skip
    for name, result in layer_and_gradients(moved, strided(u, how), native.kan_linear).items():
        assert torch.equal(result, plain[name]), name


def test_expanded_gradient_and_input(isa: str) -> None:
    case = make_case(9, 4, 21)
    layer = (case.knots, *case.parameters(), case.basis)
    x = case.x[:1].expand(30, -1)
    y = native.out(x, None, *layer, 0)
    assert torch.equal(y, native.out(x.contiguous(), None, *layer, 0))
    u = torch.ones(()).expand(30, 21)
    need = (True, True, True, True)
    for a, b in zip(
        native.in_weight(x, u, None, *layer, 1, 0, need),
        native.in_weight(x.contiguous(), u.contiguous(), None, *layer, 1, 0, need),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(4096, 2, 3), (1000, 40, 70)], ids=str)
def test_repeats_are_bitwise_equal(shape: tuple[int, int, int]) -> None:
    case = make_case(*shape)
    u = torch.randn(shape[0], shape[2])
    first = layer_and_gradients(case, u, native.kan_linear)
    for _ in range(20):
        for name, result in layer_and_gradients(case, u, native.kan_linear).items():
            assert torch.equal(result, first[name]), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_rows_stay_in_their_row(bad: float, isa: str) -> None:
    case = make_case(200, 3, 5)
    clean = native.kan_linear(case.x, case.knots, *case.parameters(), case.basis)
    case.x[17, 1] = bad
    ours = layer_and_gradients(case, torch.ones(200, 5), native.kan_linear)
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
    layer = (None, *case.parameters(), case.basis)
    native.out(case.x, None, case.knots, *layer[1:], 0)
    # behind torch's back: no version counter moves
    case.knots.numpy()[:] *= 1.5
    ours = native.out(case.x, None, case.knots, *layer[1:], 0)
    torch.testing.assert_close(
        ours, reference.kan_linear(case.x, case.knots, *case.parameters(), case.basis)
    )
