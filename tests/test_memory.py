"""Nothing outside the operands is read or written, wherever they lie in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import Case, make_case
from judge import native_kernels
from torch import Tensor

import kan_fast
from kan_fast import machine
from kan_fast.backends.crossing import layer_numbers
from kan_fast.ops.gram import gram


def guarded(t: Tensor) -> Tensor:
    """The same numbers as the inside of a larger buffer of NaN, in every dimension."""
    buffer = t.new_full([n + 6 for n in t.shape], torch.nan)
    inside = buffer[tuple(slice(3, n + 3) for n in t.shape)]
    inside.copy_(t)
    return inside


def guarded_flat(t: Tensor) -> Tensor:
    """The same numbers, contiguous, between two stretches of NaN."""
    buffer = t.new_full((t.numel() + 128,), torch.nan)
    buffer[64 : t.numel() + 64] = t.flatten()
    return buffer[64 : t.numel() + 64].view(t.shape)


@pytest.fixture
def poisoned_results():
    """torch.empty and its kin give NaN, so what a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


SHAPES = [(1, 1, 1, 5), (7, 3, 5, 5), (33, 17, 8, 3), (131, 5, 33, 5), (70, 19, 67, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", [0, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_guards_of_nan_change_nothing(isa, poisoned_results, shape, order, dtype) -> None:
    case = make_case(*shape, order, dtype=dtype)
    u = torch.randn(shape[0], shape[2], dtype=dtype)
    v = torch.randn_like(case.x)
    inside = Case(
        guarded(case.x), guarded_flat(case.knots),
        *[guarded_flat(t) for t in case.parameters()], case.basis,
    )  # fmt: skip

    def everything(c: Case, u: Tensor, v: Tensor) -> list[Tensor]:
        layer = c.layer()
        return [
            native_kernels.out(c.x, None, layer, 0),
            native_kernels.out(c.x, v, layer, 1),
            *native_kernels.in_weight(c.x, u, v, layer, 1, 0, (True,) * 4),
            native_kernels.in_weight(c.x, u, None, layer, 2, 0, (True, False, False, False))[0],
            *native_kernels.weight(c.x, u, v, c.knots, c.spline_weight.shape, True, c.basis, 1),
            gram(c.x, c.knots, c.basis),
            # read where their weights are
            native_kernels.out(c.x[:1], None, layer, 0),
        ]

    expected = everything(case, u, v)
    found = everything(inside, guarded(u), guarded(v))
    for f, e in zip(found, expected, strict=True):
        assert e.isfinite().all() and torch.equal(f, e)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_end_where_they_should(isa, shape) -> None:
    case = make_case(*shape)
    rows, in_features, out_features, _ = shape
    layer = case.layer()
    numbers, _alive = layer_numbers(case.x, None, layer)
    u = torch.randn(rows, out_features)
    sizes = [rows * out_features, rows * in_features]
    sizes += [t.numel() for t in case.parameters()]
    buffers = [torch.full((n + 128,), torch.nan) for n in sizes]
    starts = [b.data_ptr() + 64 * 4 for b in buffers]
    machine.extension().contract_out(*numbers, 0, starts[0])
    machine.extension().contract_in_weight(*numbers, 1, 0, u.data_ptr(), *u.stride(), *starts[1:])
    for n, buffer in zip(sizes, buffers, strict=True):
        assert buffer[64 : n + 64].isfinite().all()
        assert buffer[:64].isnan().all() and buffer[n + 64 :].isnan().all()


def far_apart(t: Tensor, row: int, column: int) -> Tensor:
    """The same numbers that far apart, in memory that is reserved and hardly touched."""
    rows, columns = t.shape
    try:
        memory = torch.empty((rows - 1) * row + (columns - 1) * column + 1, dtype=t.dtype)
    except RuntimeError as error:
        pytest.skip(f"the system reserves no such memory: {str(error)[:80]}")
    far = memory.as_strided(t.shape, (row, column))
    far.copy_(t)
    return far


@pytest.mark.parametrize("out_features", [3, 40])
@pytest.mark.parametrize("strides", [(2**30 + 3, 1), (1, 2**30 + 3)], ids=["rows", "columns"])
def test_offsets_beyond_two_to_the_31(strides: tuple[int, int], out_features: int) -> None:
    case = make_case(4, 4, out_features)
    case.x = torch.rand(4, 4) - 0.5
    layer = case.layer()
    x = far_apart(case.x, *strides)
    assert sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) > 2**31
    assert torch.equal(
        native_kernels.out(x, None, layer, 0), native_kernels.out(case.x, None, layer, 0)
    )
    u = torch.randn(4, out_features)
    rest = (layer, 1, 0, (True,) * 4)
    expected = native_kernels.in_weight(case.x, u, None, *rest)
    for f, e in zip(native_kernels.in_weight(x, u, None, *rest), expected, strict=True):
        assert torch.equal(f, e)
    del x
    if strides[0] > 1:
        far_u = far_apart(u, strides[0], 1)
        for f, e in zip(
            native_kernels.in_weight(case.x, far_u, None, *rest), expected, strict=True
        ):
            assert torch.equal(f, e)


def test_two_threads_may_train_at_once() -> None:
    models = [kan_fast.KAN([20, 30, 5]) for _ in range(4)]
    x = torch.rand(300, 20) - 0.5

    def gradients(model: kan_fast.KAN) -> list[Tensor]:
        return list(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))

    # a worker thread of torch has one OpenMP thread unless told otherwise
    with ThreadPoolExecutor(1) as pool:
        expected = [pool.submit(gradients, m).result() for m in models]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: gradients(models[n % 4]), range(60)))
    for n, gradient in enumerate(found):
        for f, e in zip(gradient, expected[n % 4], strict=True):
            torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-5)
