"""The kernels for GPUs against the oracle, whatever wrote them.

On a GPU where there is one; else Triton's in its interpreter and CUDA C++ thread by thread.
"""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from cases import Case, make_case, strided
from judge import (
    compare,
    compare_contractions,
    contraction_doubts,
    cuda,
    layer_and_gradients,
    on,
    triton,
)

from kan_fast import machine, reference
from kan_fast.errors import DerivativeError
from kan_fast.ops.autograd import Out
from kan_fast.spec import ACTIVATIONS, MAX_DERIVATIVE, Gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=[triton, cuda], ids=lambda module: module.name)
def backend(request: pytest.FixtureRequest) -> ModuleType:
    facts = machine.facts()
    if request.param is triton and facts.triton is None:
        pytest.skip(f"Triton: {facts.triton_error}")
    if request.param is cuda and DEVICE == "cuda" and not facts.cuda:
        pytest.skip("kan_fast was built without CUDA kernels")
    if request.param is cuda:
        request.getfixturevalue("emulation")
    return request.param


def case_of(*args, **kwargs) -> Case:
    return make_case(*args, **kwargs).to(DEVICE)


def random(case: Case, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=case.x.dtype).to(DEVICE)


@pytest.fixture
def many_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter as a GPU that is worth splitting sums for."""
    if machine.facts().interpreter:
        monkeypatch.setattr(machine, "gpu", lambda _: Gpu("interpreter", (0, 0), 40, True))


SHAPES = [
    # rows, in, out, grid_size: 1, odd, prime, below and above every tile
    (1, 1, 1, 1),
    (1, 5, 3, 5),
    (7, 2, 5, 5),
    (131, 3, 1, 5),
    (65, 17, 4, 3),
    (129, 4, 67, 5),
    (70, 19, 35, 4),
    (40, 7, 16, 20),
    (150, 3, 5, 100),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_shapes(backend: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    compare(case_of(*shape, dtype=dtype), backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("knots", ["uniform", "per-feature", "repeated"])
@pytest.mark.parametrize("order", range(8))
def test_orders_and_knots(backend: ModuleType, order: int, knots: str, dtype: torch.dtype) -> None:
    if order == 0 and knots == "repeated":
        knots = "per-feature"  # a repeated knot takes its function away
    for grid_size, out_features in [(4, 9), (60, 2)]:
        compare(case_of(70, 3, out_features, grid_size, order, dtype=dtype, knots=knots), backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid_size", [4, 60])
@pytest.mark.parametrize("derivative", range(MAX_DERIVATIVE + 1))
@pytest.mark.parametrize("order", range(8))
def test_contractions_of_every_derivative(
    backend: ModuleType, order: int, derivative: int, grid_size: int, dtype: torch.dtype
) -> None:
    activation = list(ACTIVATIONS)[(order + derivative) % 6]
    case = case_of(61, 3, 7, grid_size, order, activation, dtype, knots="per-feature")
    u, v = random(case, 61, 7), random(case, 61, 3)
    doubt = contraction_doubts(case, u, v, derivative)
    compare_contractions(case, u, v, derivative, doubt, backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations(backend: ModuleType, activation: str, dtype: torch.dtype) -> None:
    compare(case_of(77, 3, 10, activation=activation, dtype=dtype), backend)


@pytest.mark.parametrize("grid_size", [5, 60])
@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("base", [True, False], ids=["base", "no-base"])
def test_absent_parameters(backend: ModuleType, scaler: bool, base: bool, grid_size: int) -> None:
    compare(case_of(50, 4, 6, grid_size, scaler=scaler, base=base), backend)


def test_long_sums_over_inputs(backend: ModuleType) -> None:
    compare(case_of(40, 500, 12), backend)


@pytest.mark.parametrize("how", ["transposed", "sliced", "offset"])
@pytest.mark.parametrize("grid_size", [5, 60])
def test_strides_change_nothing(backend: ModuleType, how: str, grid_size: int) -> None:
    case = case_of(50, 6, 5, grid_size)
    u = random(case, 50, 5)
    plain = layer_and_gradients(case, u, on(backend))
    moved = Case(
        strided(case.x, how), strided(case.knots, how), case.spline_weight,
        strided(case.spline_scaler, how), strided(case.base_weight, how), case.basis,
    )  # fmt: skip
    for name, result in layer_and_gradients(moved, strided(u, how), on(backend)).items():
        assert torch.equal(result, plain[name]), name


@pytest.mark.parametrize("grid_size", [5, 60])
def test_expanded_gradient_and_input(backend: ModuleType, grid_size: int) -> None:
    case = case_of(9, 4, 21, grid_size)
    kernels = backend.kernels(case.spline_weight)
    layer = case.layer()
    x = case.x[:1].expand(30, -1)
    assert torch.equal(kernels.out(x, None, layer, 0), kernels.out(x.clone(), None, layer, 0))
    u = torch.ones((), device=DEVICE).expand(30, 21)
    need = (True, True, True, True)
    for a, b in zip(
        kernels.in_weight(x, u, None, layer, 1, 0, need),
        kernels.in_weight(x.clone(), u.clone(), None, layer, 1, 0, need),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (5, 3, 0)], ids=str)
def test_nothing_to_do(backend: ModuleType, shape: tuple[int, int, int]) -> None:
    case = case_of(*shape)
    u = torch.ones(shape[0], shape[2], device=DEVICE)
    ours = layer_and_gradients(case, u, on(backend))
    theirs = layer_and_gradients(case, u, reference.kan_linear)
    for name, result in ours.items():
        assert torch.equal(result, theirs[name]), name


@pytest.mark.parametrize("grid_size", [5, 60])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_rows_stay_in_their_row(backend: ModuleType, bad: float, grid_size: int) -> None:
    case = case_of(100, 3, 5, grid_size)
    clean = on(backend)(case.x, case.knots, *case.parameters(), case.basis)
    case.x[17, 1] = bad
    u = torch.ones(100, 5, device=DEVICE)
    ours = layer_and_gradients(case, u, on(backend))
    theirs = layer_and_gradients(case, u, reference.kan_linear)
    assert ours["y"][17].isnan().all()
    rest = [r for r in range(100) if r != 17]
    assert torch.equal(ours["y"][rest], clean[rest])
    # the loss is lost, and so is every coefficient that the row could have touched
    for name in ("spline_weight", "base_weight"):
        assert torch.equal(ours[name].isfinite(), theirs[name].isfinite()), name
    assert ours["x"][rest].isfinite().all()


@pytest.mark.parametrize("grid_size", [5, 60])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(backend: ModuleType, dtype: torch.dtype, grid_size: int) -> None:
    compare(case_of(90, 5, 12, grid_size).to(dtype), backend)


@pytest.mark.parametrize("grid_size", [4, 60])
def test_repeats_are_bitwise_equal(
    backend: ModuleType, grid_size: int, many_multiprocessors: None
) -> None:
    case = case_of(1100, 2, 3, grid_size)
    u = random(case, 1100, 3)
    first = layer_and_gradients(case, u, on(backend))
    for _ in range(1 if DEVICE == "cpu" else 250):
        for name, result in layer_and_gradients(case, u, on(backend)).items():
            assert torch.equal(result, first[name]), name


@pytest.mark.parametrize("grid_size", [3, 60])
def test_gradients_by_finite_differences(backend: ModuleType, grid_size: int) -> None:
    case = case_of(4, 2, 3, grid_size, 4, "gelu", torch.float64, knots="per-feature")
    leaves = [t.requires_grad_() for t in (case.x, *case.parameters())]

    def run(x, *parameters):
        return on(backend)(x, case.knots, *parameters, case.basis)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def test_higher_derivatives_match_the_oracle(backend: ModuleType) -> None:
    case = case_of(20, 2, 3, 4, 5, dtype=torch.float64)
    found = []
    for run in (on(backend), reference.kan_linear):
        x = case.x.clone().requires_grad_()
        d = run(x, case.knots, *case.parameters(), case.basis)
        for _ in range(4):
            (d,) = torch.autograd.grad(d.sum(), x, create_graph=True)
        found.append(d)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-7)


def test_a_derivative_that_is_not_there_raises(backend: ModuleType) -> None:
    case = case_of(4, 2, 3)
    kernels = backend.kernels(case.spline_weight)
    with pytest.raises(DerivativeError, match="up to order 5, got 6"):
        kernels.out(case.x, None, case.layer(), MAX_DERIVATIVE + 1)


def test_forward_mode_and_vmap(backend: ModuleType) -> None:
    case = case_of(6, 2, 3, dtype=torch.float64)
    kernels = backend.kernels(case.spline_weight)
    layer = case.layer()

    def ours(x):
        return Out.apply(x, None, *layer, kernels, 0)

    def theirs(x):
        return reference.kan_linear(x, *layer)

    tangent = torch.randn_like(case.x)
    for a, b in zip(
        torch.func.jvp(ours, (case.x,), (tangent,)),
        torch.func.jvp(theirs, (case.x,), (tangent,)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    hessians = [
        torch.func.vmap(torch.func.jacfwd(torch.func.jacrev(lambda x, f=f: f(x[None])[0])))(case.x)
        for f in (ours, theirs)
    ]
    torch.testing.assert_close(*hessians)


def test_the_basis_never_reaches_memory(backend: ModuleType) -> None:
    case = case_of(64, 8, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        x = case.x.requires_grad_()
        on(backend)(x, case.knots, *case.parameters(), case.basis)
    # x and the parameters themselves, nothing else
    known = {t.data_ptr() for t in (case.x, case.knots, *case.parameters())}
    assert {t.data_ptr() for t in kept} <= known
