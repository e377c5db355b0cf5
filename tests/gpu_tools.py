"""What the tests for a GPU share: their bodies run on the CPU, too, where there is none.

There the Triton kernels run in the interpreter and the CUDA C++ kernels thread by thread; a stream
is the order of the program, a graph is the step itself, and memory ends where a mode says so. So a
test is known to be right before a GPU sees it; what it is about, only the GPU can fail.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import kan_fast

# at the end: some of its files have the names of files here
sys.path.append(str(Path(__file__).parent.parent / "bench"))

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="torch sees no CUDA GPU here")
#: rows of a layer: several tiles on a GPU, few in the interpreter, which takes its time
ROWS = 700 if HAS_GPU else 20
#: inputs and outputs of a layer
SIZES = (24, 40) if HAS_GPU else (3, 5)
#: dense products, and weights that are gathered
GRIDS = [5, 100 if HAS_GPU else 60]
Run = Callable[[], Any]


def layer_on(
    device: str = DEVICE, grid_size: int = 5, rows: int = ROWS, sizes: tuple[int, int] = SIZES
) -> tuple[kan_fast.KANLinear, Tensor]:
    """A layer and an input that requires a gradient, the same ones every time."""
    torch.manual_seed(0)
    layer = kan_fast.KANLinear(*sizes, grid_size=grid_size).to(device)
    return layer, (torch.rand(rows, sizes[0]) * 2 - 1).to(device).requires_grad_()


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output and the gradients of x and every parameter, of a sum of squares."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    y = model(x)
    found = torch.autograd.grad(y.float().square().sum(), [x, *parameters])
    # whoever keeps y keeps nodes of the stream that it came from
    return [y.detach(), *found]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    """Bitwise, NaN included."""
    for n, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(a.isnan(), b.isnan()), n
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), (n, float((a - b).abs().max()))


def assert_near(found: list[Tensor], expected: list[Tensor], share: float = 1e-5) -> None:
    """Within a share of the largest number of each."""
    for n, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, n
        error = (a.double() - b.double().to(a.device)).abs().max()
        assert error <= share * b.double().abs().max(), (n, float(error))


def graph_of(run: Run) -> Run:
    """The run as one CUDA graph, captured after three runs that warm it up."""
    if not HAS_GPU:
        return run
    import gpu_timing

    return gpu_timing.graphed(run)


def new_stream() -> Any:
    """A side stream that the work so far is done before."""
    if not HAS_GPU:
        return None
    torch.cuda.synchronize()
    return torch.cuda.Stream()


def on(stream: Any) -> contextlib.AbstractContextManager:
    """Makes a stream the current one."""
    return torch.cuda.stream(stream) if HAS_GPU else contextlib.nullcontext()


def be_late() -> None:
    """Some 30 ms of nothing on the current stream: what does not wait for it comes before."""
    if HAS_GPU:
        torch.cuda._sleep(50_000_000)


def synchronize() -> None:
    """Waits for everything."""
    if HAS_GPU:
        torch.cuda.synchronize()


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever waits for the GPU raises; on a CPU, what would: reading a number of a tensor."""
    if HAS_GPU:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with _Watching(lambda name, result: _refuse(name)):
            yield


def _refuse(name: str) -> None:
    if name in ("aten._local_scalar_dense.default", "aten.nonzero.default"):
        raise RuntimeError(f"{name} waits for the GPU")


class _Watching(TorchDispatchMode):
    def __init__(self, look: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._look = look

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._look(str(func), result)
        return result


@contextlib.contextmanager
def memory_left(size: int) -> Iterator[None]:
    """No tensor larger than about `size` bytes can be allocated."""
    if HAS_GPU:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        total = torch.cuda.mem_get_info()[1]
        before = torch.cuda.get_per_process_memory_fraction()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + size) / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(before)
    else:

        def look(name: str, result: Any) -> None:
            if "empty" in name and result.nbytes > size:
                raise torch.OutOfMemoryError(f"{name}: {result.nbytes} bytes")

        with _Watching(look):
            yield
