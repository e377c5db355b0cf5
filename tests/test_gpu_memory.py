"""Tensors of more than 2^31 numbers, and memory that ends: on a CPU the same bodies, small."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from gpu_tools import DEVICE, HAS_GPU, assert_equal, assert_near, layer_on, memory_left, step
from torch import Tensor

import kan_fast
from kan_fast.layers.grid import uniform_knots

pytest_plugins = ["gpu_fixtures"]
pytestmark = pytest.mark.usefixtures("nothing_leaks")
HALF = torch.float16
#: a unit of the last place of the largest number, for sums in another order
ONE_ULP = 2.0**-10
#: inputs or outputs of a layer with very many rows
WIDE = 64 if HAS_GPU else 6


@pytest.fixture
def own_memory() -> Iterator[None]:
    """Every byte is there before, and given back after."""
    give_back()
    yield
    give_back()


def give_back() -> None:
    gc.collect()
    if HAS_GPU:
        torch.cuda.empty_cache()


def need_memory(gibibytes: int) -> None:
    """Skips unless so much memory is free."""
    if HAS_GPU:
        free = torch.cuda.mem_get_info()[0] >> 30
        if free < gibibytes:
            pytest.skip(f"{gibibytes} GiB of GPU memory are needed, and {free} are free")


def run(
    backend: str, x: Tensor, knots: Tensor, weight: Tensor, base: Tensor, u: Tensor
) -> dict[str, Tensor]:
    """A layer and its gradients, without a scaler."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, base)]
    y = kan_fast.kan_linear(leaves[0], knots, leaves[1], None, leaves[2], backend=backend)
    grads = torch.autograd.grad(y, leaves, u)
    return {"y": y.detach(), **dict(zip(("x", "weight", "base"), grads, strict=True))}


def half(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=HALF, device=DEVICE).mul_(2).sub_(1)


def layer(in_features: int, out_features: int, grid_size: int) -> tuple[Tensor, Tensor, Tensor]:
    knots = uniform_knots(in_features, grid_size, 3, (-1, 1), DEVICE, torch.float32).to(HALF)
    edges = (out_features, in_features)
    return knots, half(*edges, grid_size + 3), half(*edges)


@pytest.mark.large_memory
@pytest.mark.parametrize("grid_size", [5, 100 if HAS_GPU else 40])
@pytest.mark.parametrize("sizes", [(WIDE, 2), (2, WIDE)], ids=["inputs", "outputs"])
def test_rows_beyond_two_to_the_31(
    asked: str, own_memory: None, sizes: tuple[int, int], grid_size: int
) -> None:
    """Catches offsets of x, y, u or z that are 32 bits wide: of rows times inputs or outputs."""
    need_memory(18 if asked == "triton" else 48)
    rows = 2**31 // WIDE + 1000 if HAS_GPU else 170
    assert not HAS_GPU or rows * WIDE > 2**31
    inputs, outputs = sizes
    knots, weight, base = layer(inputs, outputs, grid_size)
    x = half(rows, inputs)
    # elsewhere no gradient, so that the sums over rows are those of a few
    u = torch.zeros(rows, outputs, dtype=HALF, device=DEVICE)
    # as many as in the middle: kernels for the same number of rows
    few = torch.cat([torch.arange(20), torch.arange(rows - 20, rows)]).to(DEVICE)
    u[few] = half(len(few), outputs)
    found = run(asked, x, knots, weight, base, u)
    expected = run(asked, x[few], knots, weight, base, u[few])
    for name in ("y", "x"):
        assert_near([found[name][few]], [expected[name]], 4 * ONE_ULP)
    for name in ("weight", "base"):
        assert_near([found[name]], [expected[name]], 4 * ONE_ULP)
    assert found["x"][few].any() and not found["x"][40:60].any()
    middle = slice(rows // 2, rows // 2 + 40)
    again = run(asked, x[middle], knots, weight, base, u[middle])
    assert_near([found["y"][middle]], [again["y"]], 4 * ONE_ULP)


@pytest.mark.large_memory
@pytest.mark.parametrize(
    "sizes",
    [(8192, 32776, 5), (4096, 5248, 100)] if HAS_GPU else [(24, 40, 5), (6, 20, 40)],
    ids=["dense", "gathered"],
)
def test_weights_beyond_two_to_the_31(
    asked: str, own_memory: None, sizes: tuple[int, int, int]
) -> None:
    """Catches offsets of the weights, of what they are packed into or of their gradient that are
    32 bits wide."""
    need_memory(24 if asked == "triton" else 66)
    inputs, outputs, grid_size = sizes
    knots, weight, base = layer(inputs, outputs, grid_size)
    assert not HAS_GPU or weight.numel() > 2**31
    x = half(9, inputs)
    few = torch.tensor([0, 1, outputs - 2, outputs - 1], device=DEVICE)
    u = torch.zeros(9, outputs, dtype=HALF, device=DEVICE)
    u[:, few] = half(9, 4)
    found = run(asked, x, knots, weight, base, u)
    expected = run(asked, x, knots, weight[few], base[few], u[:, few])
    assert_near([found["y"][:, few]], [expected["y"]], 4 * ONE_ULP)
    assert_near([found["x"]], [expected["x"]], 4 * ONE_ULP)
    for name in ("weight", "base"):
        assert_near([found[name][few]], [expected[name]], 4 * ONE_ULP)
        assert not found[name][2:12].any()


@pytest.mark.parametrize("grid_size", [5, 60])
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_memory_that_ends(asked: str, own_memory: None, when: str, grid_size: int) -> None:
    """Catches an error of the allocator that is taken for a reason to fall back, or that leaves
    something behind: changed parameters, half a gradient, a current device or stream."""
    rows, columns = (400_000, 24) if HAS_GPU else (40, 5)
    model, x = layer_on(grid_size=grid_size, rows=rows, sizes=(columns, columns))
    expected = step(model, x)
    before = [p.detach().clone() for p in model.parameters()]
    y = None if when == "forward" else model(x)
    u = torch.ones_like(expected[0])
    # y and the gradient of x take rows * columns * 4 bytes each
    with memory_left(rows * columns), pytest.raises(torch.OutOfMemoryError):
        if when == "forward":
            model(x)
        else:
            y.backward(u)
    assert all(p.grad is None for p in model.parameters()) and x.grad is None
    assert_equal([p.detach() for p in model.parameters()], before)
    del y
    assert_equal(step(model, x), expected)
