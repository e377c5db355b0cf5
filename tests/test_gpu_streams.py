"""Streams, waiting and other devices: what runs when, and whose memory it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from gpu_tools import (
    DEVICE,
    GRIDS,
    HAS_GPU,
    ROWS,
    SIZES,
    assert_equal,
    assert_near,
    be_late,
    layer_on,
    needs_gpu,
    new_stream,
    no_waiting,
    on,
    step,
    synchronize,
)
from torch import Tensor

import kan_fast

pytest_plugins = ["gpu_fixtures"]
pytestmark = pytest.mark.usefixtures("nothing_leaks")


def not_yet(t: Tensor) -> Tensor:
    """The numbers of t, which arrive late on the current stream; NaN until then."""
    late = torch.full_like(t, torch.nan)
    synchronize()
    be_late()
    return late.copy_(t.detach())


@pytest.mark.parametrize("grid_size", GRIDS)
def test_the_current_stream_is_used(asked: str, grid_size: int) -> None:
    """Catches launches on the default stream, which would not wait for x."""
    layer, x = layer_on(grid_size=grid_size)
    expected = step(layer, x)
    stream = new_stream()
    with on(stream):
        found = step(layer, not_yet(x).requires_grad_())
    synchronize()
    assert_equal(found, expected)


class _Late(torch.autograd.Function):
    """The identity, whose gradient arrives late on the stream that its backward runs on."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Tensor:
        return not_yet(u)


@pytest.mark.parametrize("grid_size", GRIDS)
def test_a_backward_runs_on_the_stream_of_its_forward(asked: str, grid_size: int) -> None:
    """Catches a backward on the stream that is current where .backward() is called, or on the
    default one: autograd runs it on the forward's, and so must every launch of it."""
    layer, x = layer_on(grid_size=grid_size)
    leaves = [x, *layer.parameters()]
    u = torch.randn(ROWS, SIZES[1], device=DEVICE)
    expected = torch.autograd.grad(layer(x), leaves, u)
    stream = new_stream()
    with on(stream):
        y = _Late.apply(layer(x))
    synchronize()
    found = torch.autograd.grad(y, leaves, u)
    synchronize()
    assert_equal(list(found), list(expected))


def test_two_streams_at_once(asked: str) -> None:
    """Catches memory that launches share: partial sums, packed weights, counters of blocks."""
    models = [kan_fast.KANLinear(*SIZES, grid_size=g) for g in GRIDS]
    models += [kan_fast.KAN([SIZES[0], n, 1]) for n in (5, 6)]
    models = [model.to(DEVICE) for model in models]
    x = (torch.rand(ROWS, SIZES[0]) - 0.5).to(DEVICE).requires_grad_()
    expected = [step(model, x) for model in models]
    streams = [new_stream() for _ in models]
    for _ in range(10 if HAS_GPU else 1):
        found = []
        for stream in streams:
            with on(stream):
                be_late()  # so that all wait together, and then go
        for model, stream in zip(models, streams, strict=True):
            with on(stream):
                found.append(step(model, x))
        synchronize()
        for ours, wanted in zip(found, expected, strict=True):
            assert_equal(ours, wanted)


def test_threads_with_streams_of_their_own(asked: str) -> None:
    """Catches state of the process that launches pass through: a current device, a chosen tile."""
    models = [kan_fast.KANLinear(5, 7, grid_size=g).to(DEVICE) for g in (4, 5, 60)]
    x = (torch.rand(ROWS, 5) - 0.5).to(DEVICE).requires_grad_()
    expected = [step(model, x) for model in models]
    streams = [new_stream() for _ in models]

    def work(n: int) -> list[Tensor]:
        with on(streams[n % 3]):
            return step(models[n % 3], x)

    # the interpreter changes the language while it runs: one thread at a time
    with ThreadPoolExecutor(3 if HAS_GPU else 1) as pool:
        found = list(pool.map(work, range(60 if HAS_GPU else 3)))
    synchronize()
    for n, ours in enumerate(found):
        assert_equal(ours, expected[n % 3])


def test_memory_in_use_on_a_side_stream_is_not_given_away(asked: str) -> None:
    """Catches a copy of x's address that outlives what `record_stream` keeps."""
    layer, x = layer_on()
    expected = step(layer, x)
    stream = new_stream()
    mine = x.detach().clone().requires_grad_()
    synchronize()
    with on(stream):
        be_late()
        found = step(layer, mine)
    if HAS_GPU:
        mine.record_stream(stream)
    del mine
    # of the same size, on the stream that x came from
    taken = [torch.full_like(x, torch.nan) for _ in range(20)]
    synchronize()
    assert_equal(found, expected)
    assert taken


@pytest.mark.parametrize("grid_size", GRIDS)
def test_temporaries_belong_to_the_stream_of_the_launch(asked: str, grid_size: int) -> None:
    """Catches partial sums, packed weights and contiguous copies that come from another stream's
    memory: freed when the call returns, they would be overwritten before the launch ran."""
    layer, x = layer_on(grid_size=grid_size, rows=ROWS)
    weight = layer.spline_weight.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0)
    layer.spline_weight = torch.nn.Parameter(weight)
    assert not layer.spline_weight.is_contiguous()
    expected = step(layer, x)
    stream = new_stream()
    with on(stream):
        be_late()
        found = step(layer, x)
    # whatever this process has freed on the default stream is NaN now
    taken = [torch.full((n,), torch.nan, device=DEVICE) for n in [2**k for k in range(21)] * 3]
    synchronize()
    assert_equal(found, expected)
    assert taken


def test_a_copy_that_does_not_block(asked: str) -> None:
    """Catches a forward that is not in the order of the stream: x is still on its way."""
    layer, x = layer_on()
    expected = step(layer, x)
    host = x.detach().cpu()
    if HAS_GPU:
        host = host.pin_memory()
    arriving = torch.full_like(x, torch.nan, requires_grad=False)
    synchronize()
    be_late()
    arriving.copy_(host, non_blocking=True)
    assert_equal(step(layer, arriving.requires_grad_()), expected)


@pytest.mark.parametrize("grid_size", GRIDS)
def test_nothing_waits_for_the_gpu(asked: str, grid_size: int) -> None:
    """Catches numbers that the host reads: each would stop the queue of launches."""
    layer, x = layer_on(grid_size=grid_size)
    network = kan_fast.KAN([SIZES[0], 5, 1]).to(DEVICE)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    def in_half_precision() -> None:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            step(layer, x)

    runs = [
        lambda: step(layer, x),
        lambda: torch.autograd.grad(layer(x).sum(), x),
        lambda: layer(x[:0]),
        lambda: layer(x.t().contiguous().t()),
        infer,
        in_half_precision,
    ]
    if asked == "cuda":  # one launch, where Triton has those of layers
        runs.append(lambda: step(network, x))
    for run in runs:
        run()  # compiled now
        with no_waiting():
            run()


@needs_gpu
def test_waiting_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        torch.ones(3, device=DEVICE).sum().item()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
@pytest.mark.parametrize("grid_size", GRIDS)
def test_a_device_that_is_not_the_current_one(asked: str, grid_size: int) -> None:
    """Catches launches, compiled kernels and streams of device 0 on tensors of device 1."""
    layer, x = layer_on("cuda:1", grid_size)
    expected = step(*layer_on("cuda:0", grid_size))
    with torch.cuda.device(0):
        found = step(layer, x)
    with torch.cuda.device(1), torch.cuda.stream(torch.cuda.Stream(1)):
        again = step(layer, not_yet(x).requires_grad_())
    for n in range(2):
        torch.cuda.synchronize(n)
    assert all(t.device.index == 1 for t in found + again)
    assert_near([t.cpu() for t in found], [t.cpu() for t in expected])
    assert_near([t.cpu() for t in again], [t.cpu() for t in expected])
