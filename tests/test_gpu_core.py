"""The default path in a minute: what a first run on a GPU has to show before anything else.

No extension is needed. Where there is no GPU the same cases run in Triton's interpreter.
"""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch
from cases import Case, make_case
from judge import compare, compare_contractions, contraction_doubts, on, triton

import kan_fast
from kan_fast import machine
from kan_fast.ops import plan as plans
from kan_fast.ops.plan import plan_for
from kan_fast.spec import Machine
from kan_fast.testing import BF16_EPS, GRADIENT_FACTOR, TF32_EPS, assert_within_tolerance

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)

#: the interpreter takes milliseconds for what a GPU does in nanoseconds
LARGE = (
    [(70, 9, 20, 5), (30, 3, 5, 60)]
    if machine.facts().interpreter
    else [(300, 40, 70, 5), (150, 3, 5, 100)]
)


def case_of(*args, **kwargs) -> Case:
    return make_case(*args, **kwargs).to(DEVICE)


def test_the_planner_takes_triton() -> None:
    layer = kan_fast.KANLinear(3, 2).to(DEVICE)
    x = torch.randn(5, 3, device=DEVICE)
    backend = "auto" if DEVICE == "cuda" else "triton"
    assert plan_for(x, layer.spline_weight, layer.spline_order, backend=backend).backend == "triton"
    kan_fast.kan_linear(
        x, layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight,
        spline_order=layer.spline_order, backend=backend,
    )  # fmt: skip


def test_without_the_extension_a_gpu_still_has_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Machine(extension=None, extension_error="not built", triton="3.6.0")
    monkeypatch.setattr(machine, "facts", lambda: none)
    plans._say_once_if_slow.cache_clear()
    arguments = ("float32", 3, None, "auto")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plan = plans._plan.__wrapped__("cuda", *arguments, (9, 0))
        assert plan.backend == "triton" and not said
        plans._plan.__wrapped__("cpu", *arguments, None)
    assert "no native kernels" in str(said[0].message)


@pytest.mark.parametrize(
    "shape",
    # a first script's layers, one of odd sizes, several tiles, one that gathers
    [(100, 2, 5, 5), (100, 5, 1, 5), (65, 17, 4, 3), *LARGE],
    ids=lambda s: "x".join(map(str, s)),
)
def test_forward_and_every_gradient(shape: tuple[int, ...]) -> None:
    compare(case_of(*shape), triton)


def test_float64() -> None:
    compare(case_of(65, 7, 5, dtype=torch.float64), triton)


@pytest.mark.parametrize("grid_size", [5, 60])
def test_second_derivatives_of_the_basis(grid_size: int) -> None:
    case = case_of(61, 3, 7, grid_size, knots="per-feature")
    u, v = torch.randn(61, 7).to(DEVICE), torch.randn(61, 3).to(DEVICE)
    compare_contractions(case, u, v, 2, contraction_doubts(case, u, v, 2), triton)


@pytest.mark.parametrize("precision", ["high", "bfloat16"])
def test_products_that_round_their_operands(precision: str) -> None:
    """TF32 and autocast to bfloat16 against the oracle in float64."""
    rows, inputs, outputs, _ = LARGE[0]
    case = case_of(rows, inputs, outputs)
    parameters = [t for t in (case.x, *case.parameters()) if t is not None]
    u = torch.randn(rows, outputs).to(DEVICE)

    def run(
        backend: str, dtype: torch.dtype, context: contextlib.AbstractContextManager
    ) -> list[torch.Tensor]:
        x, *weights = (t.to(dtype).requires_grad_() for t in parameters)
        with context:
            y = kan_fast.kan_linear(
                x, case.knots.to(dtype), *weights, spline_order=3, backend=backend
            )
        return [y.detach(), *torch.autograd.grad(y, [x, *weights], u.to(y.dtype))]

    truth = run("reference", torch.float64, contextlib.nullcontext())
    yardstick = run("reference", torch.float32, contextlib.nullcontext())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "high" else "highest")
    autocast = torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16")
    try:
        found = run("triton", torch.float32, autocast)
    finally:
        torch.set_float32_matmul_precision(before)
    eps = TF32_EPS if precision == "high" else BF16_EPS
    names = ("y", "x", "spline_weight", "spline_scaler", "base_weight")
    for name, a, b, c in zip(names, found, truth, yardstick, strict=True):
        assert_within_tolerance(name, a.float(), b, c, GRADIENT_FACTOR, 0.0, eps)


def test_a_loss_in_the_laplacian() -> None:
    """A network's third derivatives through autograd, as physics-informed training takes them."""
    torch.manual_seed(0)
    model = kan_fast.KAN((2, 8, 1), 5).to(DEVICE)
    points = (torch.rand(50, 2) * 1.9 - 0.95).to(DEVICE)

    def gradients(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
        layers = [
            [t.detach().to(dtype).requires_grad_(n > 0) for n, t in enumerate(
                (m.grid, m.spline_weight, m.spline_scaler, m.base_weight))]
            for m in model.modules() if isinstance(m, kan_fast.KANLinear)
        ]  # fmt: skip
        x = points.to(dtype).requires_grad_()
        y = x
        for knots, *weights in layers:
            y = kan_fast.kan_linear(y, knots, *weights, spline_order=3, backend=backend)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        second = [
            torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in (0, 1)
        ]
        loss = (second[0] + second[1] - 1).square().mean()
        return torch.autograd.grad(loss, [w for _, *weights in layers for w in weights])

    truth = gradients("reference", torch.float64)
    yardstick = gradients("reference", torch.float32)
    for n, found in enumerate(gradients("triton", torch.float32)):
        # three derivatives of cells 2 / 5 wide multiply the roundings of the first layer's output
        doubt = 64 * torch.finfo(torch.float32).eps * float(truth[n].abs().max())
        assert_within_tolerance(
            f"gradient {n}", found, truth[n], yardstick[n], GRADIENT_FACTOR, doubt
        )


def test_repeats_are_bitwise_equal() -> None:
    case = case_of(*LARGE[0])
    outputs = [on(triton)(case.x, case.knots, *case.parameters(), case.basis) for _ in range(5)]
    assert all(torch.equal(y, outputs[0]) for y in outputs)
