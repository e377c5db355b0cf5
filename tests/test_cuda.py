"""The CUDA C++ kernels: what was built, what the planner does with them, and their tiles."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import Case, make_case
from judge import compare, compare_contractions, contraction_doubts, cuda, layer_and_gradients, on
from torch import Tensor

import kan_fast
from kan_fast import machine, reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.crossing import layer_numbers
from kan_fast.backends.cuda import backend as cuda_backend
from kan_fast.backends.cuda import network as cuda_network
from kan_fast.backends.cuda import spline as cuda_kernels
from kan_fast.backends.cuda.spline import CudaKernels
from kan_fast.backends.layer import layers_of
from kan_fast.backends.planner import choose
from kan_fast.errors import BackendUnavailable
from kan_fast.ops.network import _Network
from kan_fast.ops.plan import plan_for
from kan_fast.spec import Gpu, Machine, Problem
from kan_fast.testing import (
    BF16_EPS,
    GRADIENT_FACTOR,
    TF32_EPS,
    VALUE_FACTOR,
    assert_within_tolerance,
)

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import aot_cuda  # noqa: E402
from machine_code import tool  # noqa: E402

pytestmark = pytest.mark.usefixtures("emulation")

#: where there is no GPU, thread by thread
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def use(monkeypatch: pytest.MonkeyPatch, sparse: bool, wgmma: bool) -> None:
    """Has the backend take these tensor cores, which nothing else does: neither is the fastest."""

    @functools.cache
    def kernels(product: str | None) -> CudaKernels:
        return CudaKernels(product, sparse, wgmma)

    monkeypatch.setattr(cuda_backend, "_kernels", kernels)


def case_of(*args, **kwargs) -> Case:
    return make_case(*args, **kwargs).to(DEVICE)


@pytest.mark.skipif(not machine.facts().cuda, reason="kan_fast was built without CUDA kernels")
@pytest.mark.skipif(tool("cuobjdump") is None, reason="cuobjdump is not installed")
def test_every_kernel_is_installed_and_keeps_its_registers() -> None:
    """For the architectures that were built; bench/aot_cuda.py compiles all of them."""
    kernels = aot_cuda.kernels_of(Path(machine.extension().__file__))
    units = [p.stem for p in aot_cuda.SOURCES.glob("*.cu")]
    assert kernels
    for arch in {k["arch"] for k in kernels}:
        own = [u for u, of in aot_cuda.OWN.items() if of == arch]
        wanted = own or [u for u in units if u not in aot_cuda.OWN]
        there = {k["kernel"] for k in kernels if k["arch"] == arch}
        assert there == set().union(*map(aot_cuda.expected, wanted))
    assert [(k["arch"], k["kernel"], f) for k in kernels for f in aot_cuda.faults(k)] == []


PRECISIONS = [("highest", None), ("high", TF32_EPS), ("medium", BF16_EPS)]


@pytest.mark.parametrize("precision, eps", PRECISIONS, ids=lambda p: str(p))
@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 1), (65, 17, 67, 5), (130, 9, 130, 3), (40, 300, 16, 5), (64, 5, 20, 8)]
)
@pytest.mark.parametrize("wgmma", [False, True], ids=["mma", "wgmma"])
@pytest.mark.parametrize(
    "order, sparse", [(1, False), (1, True), (2, False), (2, True), (3, False), (3, True)]
)
def test_products_of_tensor_cores(
    shape: tuple[int, ...], order: int, sparse: bool, wgmma: bool, precision: str,
    eps: float | None, monkeypatch,
) -> None:  # fmt: skip
    if wgmma and DEVICE == "cuda" and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("wgmma is an instruction of compute capability 9.0")
    use(monkeypatch, sparse, wgmma)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    # nothing falls back to gathering, or to another kernel of tensor cores
    used = []
    extension = machine.extension()
    monkeypatch.setattr(extension, "cuda_out", None)
    monkeypatch.setattr(extension, "cuda_in_weight", None)
    multiply = extension.cuda_mma_out
    monkeypatch.setattr(
        extension, "cuda_mma_out", lambda *args: used.append(args[-6:-4]) or multiply(*args)
    )
    compare(case_of(*shape, order, knots="per-feature"), cuda, eps)
    assert used == [(sparse, wgmma)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("wgmma", [False, True], ids=["mma", "wgmma"])
def test_products_of_half_precision(
    dtype: torch.dtype, sparse: bool, wgmma: bool, monkeypatch
) -> None:
    if wgmma and DEVICE == "cuda" and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("wgmma is an instruction of compute capability 9.0")
    use(monkeypatch, sparse, wgmma)
    monkeypatch.setattr(machine.extension(), "cuda_out", None)
    compare(case_of(200, 33, 70, 5).to(dtype), cuda)
    compare(case_of(200, 20, 16, 3, base=False).to(dtype), cuda)


@pytest.mark.parametrize("precision, eps", PRECISIONS, ids=lambda p: str(p))
def test_products_of_every_derivative_and_with_a_factor(
    precision: str, eps: float | None, monkeypatch
) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    monkeypatch.setattr(machine.extension(), "cuda_out", None)
    monkeypatch.setattr(machine.extension(), "cuda_in_weight", None)
    case = case_of(70, 9, 40, 4, 3, knots="per-feature")
    u, v = torch.randn(70, 40).to(DEVICE), torch.randn(70, 9).to(DEVICE)
    for derivative in range(6):
        doubt = contraction_doubts(case, u, v, derivative)
        if eps is not None:
            # rounded operands: of terms that may cancel
            doubt = {n: d + eps * d / torch.finfo(torch.float32).eps for n, d in doubt.items()}
        compare_contractions(case, u, v, derivative, doubt, cuda, eps)


def test_rows_of_tensor_cores_are_split_and_repeat_bitwise() -> None:
    case = case_of(3000, 9, 20)
    layer, _alive = layer_numbers(case.x, None, case.layer())
    assert machine.extension().cuda_mma_partial_numbers(*layer, 0) / (9 * 20 * 9) > 10
    compare(case, cuda)
    u = torch.randn(3000, 20).to(DEVICE)
    first, again = (layer_and_gradients(case, u, on(cuda)) for _ in range(2))
    assert all(torch.equal(t, again[name]) for name, t in first.items())


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("wgmma", [False, True], ids=["mma", "wgmma"])
def test_non_finite_rows_of_tensor_cores_stay_in_their_row(
    sparse: bool, wgmma: bool, monkeypatch
) -> None:
    use(monkeypatch, sparse, wgmma)
    case = case_of(100, 9, 20)
    clean = on(cuda)(case.x, case.knots, *case.parameters(), case.basis)
    case.x[17, 1] = float("inf")
    found = on(cuda)(case.x, case.knots, *case.parameters(), case.basis)
    rest = [r for r in range(100) if r != 17]
    assert found[17].isnan().all() and torch.equal(found[rest], clean[rest])


def test_a_block_has_the_shared_memory_that_the_driver_says(monkeypatch) -> None:
    # of compute capability 11.0, of which there is no table here
    given = SimpleNamespace(shared_memory_per_block_optin=227 << 10)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: given)
    monkeypatch.setattr(machine, "gpu", lambda _: Gpu("Thor", (11, 0), 20))
    x = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 7))
    try:
        assert CudaKernels("tf32")._choices(x, 3) == [(False, False, 227 << 10)]
    finally:
        cuda_kernels._most_shared.cache_clear()


def test_who_asks_for_them_gets_them() -> None:
    facts = Machine(extension="baseline", cuda=True)
    device = Problem("cuda", "float32", 3, capability=(9, 0))
    asked = Problem("cuda", "float32", 3, capability=(9, 0), asked=True)
    assert choose(asked, facts, BACKENDS, "cuda").backend == "cuda"
    # nobody gets them without asking
    assert choose(device, facts, BACKENDS).backend == "reference"
    assert "slower than Triton's" in cuda.why_not(device, facts)
    assert "8.0 or more, got 7.5" in cuda.why_not(
        Problem("cuda", "float32", 3, capability=(7, 5), asked=True), facts
    )
    assert "without CUDA kernels" in cuda.why_not(asked, Machine(extension="baseline"))
    emulating = Machine(extension="baseline", cuda_emulated=True)
    assert cuda.why_not(Problem("cpu", "float32", 3, asked=True), emulating) is None
    assert "built without" in cuda.why_not(Problem("cpu", "float32", 3), emulating)


@pytest.mark.skipif(machine.facts().cuda_emulated, reason="KAN_FAST_CUDA_EMULATE allows it")
def test_a_cpu_tensor_is_refused_in_a_sentence() -> None:
    layer = kan_fast.KANLinear(3, 2)
    x = torch.randn(4, 3)
    with pytest.raises(BackendUnavailable, match=r"cuda was asked for but .*; use backend='auto'"):
        kan_fast.kan_linear(x, layer.grid, layer.spline_weight, backend="cuda")
    assert plan_for(x, layer.spline_weight, 3).backend == "native"


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
def test_sums_over_many_rows_are_split(scaler: bool) -> None:
    case = case_of(5003, 2, 12, scaler=scaler)
    layer, _alive = layer_numbers(case.x, None, case.layer())
    parts = machine.extension().cuda_partial_numbers(*layer) / (2 * 12 * 9)
    assert parts == 40  # of at least 128 rows
    compare(case, cuda)


@pytest.mark.parametrize("grid_size", [180, 700])
def test_tiles_shrink_for_large_grids(grid_size: int) -> None:
    compare(case_of(70, 3, 70, grid_size, dtype=torch.float64), cuda)


def test_a_grid_too_large_for_shared_memory_is_refused() -> None:
    case = case_of(3, 1, 1, 4000)
    with pytest.raises(ValueError, match="fit in 96 KB of shared memory"):
        compare(case, cuda)


#: widths, grid_size, spline_order, rows: the networks of scientists, one above a block of rows,
#: one of the widest and one as deep as they may be
NETWORKS = [
    ((2, 5, 1), 5, 3, 1000),
    ((4, 10, 10, 1), 3, 3, 70),
    ((2, 8, 8, 8, 2), 5, 3, 33),
    ((1, 1), 1, 0, 1),
    ((64, 3, 17), 4, 2, 65),
    ((3, 2, 2, 2, 2, 2, 2, 2, 4), 6, 5, 40),
    ((2, 3, 1), 5, 3, 9000),
    ((2, 3, 1), 5, 3, 0),
]


def network(
    widths: tuple[int, ...], grid_size: int, order: int, rows: int, dtype: torch.dtype
) -> tuple[Tensor, list[Case]]:
    layers = [
        case_of(1, i, o, grid_size, order, dtype=dtype, knots="per-feature", scaler=n % 2 == 0)
        for n, (i, o) in enumerate(zip(widths, widths[1:], strict=False))
    ]
    for layer in layers:  # outputs of the size of the grid
        for t in layer.parameters():
            if t is not None:
                t /= max(1, layer.spline_weight.shape[1]) ** 0.5
    x = torch.rand(rows, widths[0], dtype=dtype) * 3 - 1.5
    return x.to(DEVICE), layers


def outputs_and_gradients(run, x: Tensor, layers: list[Case], u: Tensor) -> dict[str, Tensor]:
    leaves = [x, *[t for layer in layers for t in layer.parameters() if t is not None]]
    leaves = [t.clone().requires_grad_() for t in leaves]
    rest = iter(leaves[1:])
    parameters: list[Tensor | None] = []
    for layer in layers:
        parameters.append(layer.knots)
        parameters += [None if t is None else next(rest) for t in layer.parameters()]
    y = run(leaves[0], parameters, [layer.basis for layer in layers])
    found = torch.autograd.grad(y, leaves, u)
    return {"y": y.detach()} | {f"gradient {n}": t for n, t in enumerate(found)}


def by_layers(x: Tensor, parameters: list[Tensor | None], bases: list) -> Tensor:
    for n, basis in enumerate(bases):
        x = reference.kan_linear(x, *parameters[4 * n : 4 * n + 4], basis)
    return x


def in_one_launch(x: Tensor, parameters: list[Tensor | None], bases: list) -> Tensor:
    return _Network.apply(x, tuple(bases), cuda.kernels(x), *parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", NETWORKS, ids=str)
def test_networks_in_one_launch(shape: tuple, dtype: torch.dtype, monkeypatch) -> None:
    # nothing falls back to layers
    monkeypatch.setattr(CudaKernels, "out", None)
    monkeypatch.setattr(CudaKernels, "in_weight", None)
    x, layers = network(*shape, dtype)
    u = torch.randn(shape[3], shape[0][-1], dtype=dtype).to(DEVICE)
    found = outputs_and_gradients(in_one_launch, x, layers, u)

    def wide(t: Tensor) -> Tensor:
        return t.double()

    truth = outputs_and_gradients(
        by_layers, wide(x), [layer.to(torch.float64) for layer in layers], wide(u)
    )
    yardstick = outputs_and_gradients(by_layers, x, layers, u)
    for name, result in found.items():
        # automatic differentiation of the recurrence is no better than this in float64, and few
        # numbers are no measure of a method
        scale = float(truth[name].abs().max()) + 1 if truth[name].numel() else 0
        doubt = (3e-12 + 4 * torch.finfo(dtype).eps) * scale
        factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
        assert_within_tolerance(name, result, truth[name], yardstick[name], factor, doubt)


def test_only_gradients_that_are_wanted() -> None:
    x, layers = network((2, 5, 1), 5, 3, 50, torch.float64)
    u = torch.randn(50, 1, dtype=torch.float64).to(DEVICE)
    every = outputs_and_gradients(in_one_launch, x, layers, u)
    parameters = [t for layer in layers for t in (layer.knots, *layer.parameters())]
    x.requires_grad_()
    y = in_one_launch(x, parameters, [layer.basis for layer in layers])
    assert torch.equal(torch.autograd.grad(y, x, u)[0], every["gradient 0"])
    x.requires_grad_(False)
    last = layers[1].spline_weight.requires_grad_()
    y = in_one_launch(x, parameters, [layer.basis for layer in layers])
    assert torch.equal(torch.autograd.grad(y, last, u)[0], every["gradient 4"])


def test_networks_have_every_derivative() -> None:
    x, layers = network((2, 4, 1), 4, 4, 6, torch.float64)
    leaves = [t for layer in layers for t in layer.parameters() if t is not None]
    leaves = [x, *leaves]
    for t in leaves:
        t.requires_grad_()
    parameters = [t for layer in layers for t in (layer.knots, *layer.parameters())]
    bases = [layer.basis for layer in layers]

    def run(*_: Tensor) -> Tensor:
        return in_one_launch(x, parameters, bases)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)
    thirds = []
    for f in (in_one_launch, by_layers):
        d = f(x, parameters, bases)
        for _ in range(3):
            (d,) = torch.autograd.grad(d.sum(), x, create_graph=True)
        thirds.append(d)
    torch.testing.assert_close(*thirds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        ((2, 8, 8, 8, 2), 5, 3, 70),
        ((4, 10, 10, 1), 3, 4, 33),
        ((1, 1), 2, 2, 1),
        ((3, 17), 5, 3, 0),
    ],
    ids=str,
)
def test_double_backwards_in_one_launch(shape: tuple, dtype: torch.dtype, monkeypatch) -> None:
    """The gradients of a function of the gradient of x, as in physics-informed training."""
    x, layers = network(*shape, dtype)
    u = torch.randn(shape[3], shape[0][-1], dtype=dtype).to(DEVICE)
    t = torch.randn(x.shape, dtype=dtype).to(DEVICE)

    def gradients(run, x: Tensor, layers: list[Case], u: Tensor, t: Tensor) -> dict[str, Tensor]:
        parameters = [p for layer in layers for p in (layer.knots, *layer.parameters())]
        leaves = [x, u, *[p for n, p in enumerate(parameters) if n % 4 and p is not None]]
        for leaf in leaves:
            leaf.requires_grad_()
        y = run(x, parameters, [layer.basis for layer in layers])
        (slope,) = torch.autograd.grad(y, x, u, create_graph=True)
        found = torch.autograd.grad(slope, leaves, t.to(slope.dtype))
        return {"slope": slope.detach()} | {f"gradient {n}": g for n, g in enumerate(found)}

    def copied(to: torch.dtype):
        return x.detach().to(to, copy=True), [layer.to(to) for layer in layers], u.to(to, copy=True)

    truth = gradients(by_layers, *copied(torch.float64), t)
    yardstick = gradients(by_layers, *copied(dtype), t)
    # nothing falls back to layers
    monkeypatch.setattr(CudaKernels, "out", None)
    monkeypatch.setattr(CudaKernels, "in_weight", None)
    found = gradients(in_one_launch, *copied(dtype), t)
    for name, result in found.items():
        scale = float(truth[name].abs().max()) + 1 if truth[name].numel() else 0
        doubt = (1e-11 + 4 * torch.finfo(dtype).eps) * scale
        assert_within_tolerance(name, result, truth[name], yardstick[name], GRADIENT_FACTOR, doubt)


def test_repeats_are_bitwise_equal_and_non_finite_rows_stay_in_their_row() -> None:
    x, layers = network((2, 5, 1), 5, 3, 400, torch.float32)
    u = torch.ones(400, 1, device=DEVICE)
    first = outputs_and_gradients(in_one_launch, x, layers, u)
    again = outputs_and_gradients(in_one_launch, x, layers, u)
    assert all(torch.equal(t, again[name]) for name, t in first.items())
    x[17, 1] = float("inf")
    bad = outputs_and_gradients(in_one_launch, x, layers, u)
    rest = [r for r in range(400) if r != 17]
    for name in ("y", "gradient 0"):  # of x
        assert bad[name][17].isnan().all()
        assert torch.equal(bad[name][rest], first[name][rest])
    # the loss is lost: no parameter gets a gradient as if nothing had happened
    assert all(not t.isfinite().all() for t in bad.values())


@pytest.mark.parametrize("widths", [(2, 65, 1), (2,) * 10, (64, 64, 64)], ids=str)
def test_networks_that_do_not_fit_run_layer_by_layer(widths: tuple[int, ...]) -> None:
    x, layers = network(widths, 5, 3, 20, torch.float64)
    parameters = [t for layer in layers for t in (layer.knots, *layer.parameters())]
    bases = [layer.basis for layer in layers]
    assert cuda_network.out(x, layers_of(parameters, bases)) is None
    u = torch.randn(20, widths[-1], dtype=torch.float64).to(DEVICE)
    found = outputs_and_gradients(in_one_launch, x, layers, u)
    wanted = outputs_and_gradients(by_layers, x, layers, u)
    for name, t in found.items():
        torch.testing.assert_close(t, wanted[name], msg=name)
