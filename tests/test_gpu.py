"""What only a GPU shows: graphs, streams, launches, waiting, other devices, very large tensors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import Case, make_case

import kan_fast
from kan_fast import envs, machine
from kan_fast.backends import triton
from kan_fast.functional import plan_for

if not torch.cuda.is_available():
    pytest.skip("torch sees no CUDA GPU here", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import gpu_timing  # noqa: E402


def layer_on(device: str, grid_size: int = 5) -> tuple[kan_fast.KANLinear, torch.Tensor]:
    torch.manual_seed(0)
    layer = kan_fast.KANLinear(24, 40, grid_size=grid_size).to(device)
    return layer, (torch.rand(700, 24) * 2 - 1).to(device).requires_grad_()


def step(layer: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y))]


def test_auto_runs_triton() -> None:
    layer, x = layer_on("cuda")
    assert plan_for(x, layer.spline_weight, layer.spline_order).backend == "triton"


@pytest.fixture(params=["triton", "cuda"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend that every layer is asked to run on."""
    if request.param == "cuda" and not machine.facts().cuda:
        pytest.skip("kan_fast was built without CUDA kernels")
    monkeypatch.setattr(envs, "BACKEND", request.param)
    return request.param


@pytest.mark.parametrize("widths", [(2, 5, 1), (4, 10, 10, 1), (2, 8, 8, 8, 2)], ids=str)
def test_a_network_is_one_launch(widths: tuple[int, ...], monkeypatch) -> None:
    if not machine.facts().cuda:
        pytest.skip("kan_fast was built without CUDA kernels")
    monkeypatch.setattr(envs, "BACKEND", "cuda")
    model = kan_fast.KAN(widths).to("cuda")
    x = (torch.rand(1000, widths[0], device="cuda") * 2 - 1).requires_grad_()
    found = {}
    for name, run in (("forward", lambda: model(x)), ("step", lambda: step(model, x))):
        launches = gpu_timing.launches(run)
        found[name] = sum(n for k, n in launches.items() if "in_step" in k)
    with torch.no_grad():
        assert sum(gpu_timing.launches(lambda: model(x)).values()) == 1
    assert found == {"forward": 1, "step": 2}


@pytest.mark.parametrize("grid_size", [5, 100])
def test_launches(grid_size: int) -> None:
    layer, x = layer_on("cuda", grid_size)
    forward = gpu_timing.launches(lambda: layer(x))
    whole = gpu_timing.launches(lambda: step(layer, x))
    ours = ("contract", "unfold", "gather", "pack")
    count = {
        name: sum(n for k, n in found.items() if k.startswith(ours))
        for name, found in (("forward", forward), ("step", whole))
    }
    # gathering packs the weights once more in each direction
    assert count == ({"forward": 1, "step": 3} if grid_size == 5 else {"forward": 2, "step": 6})


@pytest.mark.parametrize("runner", [(), ("-m", "kan_fast")], ids=["plain", "kan_fast"])
def test_the_example_s_graph_trains_as_its_steps_do(asked: str, runner: tuple[str, ...]) -> None:
    root = Path(__file__).parent.parent
    losses = []
    for option in ((), ("--eager",)):
        done = subprocess.run(
            [sys.executable, *runner, "examples/unmodified/cuda_graph_step.py", *option],
            capture_output=True, text=True, cwd=root, env={**os.environ, "KAN_FAST_BACKEND": asked},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("one CUDA graph" in done.stdout) == (not option)
        losses.append(float(re.search(r"final loss ([\d.]+)", done.stdout)[1]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("grid_size", [5, 100])
def test_a_graph_replays_a_step(asked: str, grid_size: int) -> None:
    layer, x = layer_on("cuda", grid_size)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        layer(x).square().mean().backward()
        optimizer.step()

    before = {n: t.clone() for n, t in layer.state_dict().items()}
    replay = gpu_timing.graphed(train)
    layer.load_state_dict(before)
    replay()
    found = [p.clone() for p in layer.parameters()]
    layer.load_state_dict(before)
    train()
    for a, b in zip(found, layer.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_waits_for_the_gpu() -> None:
    layer, x = layer_on("cuda")
    step(layer, x)  # compiled now
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(layer, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_current_stream_is_used() -> None:
    layer, x = layer_on("cuda")
    expected = step(layer, x)
    stream = torch.cuda.Stream()
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(x.detach())
        # on another stream it would see zeros
        found = step(layer, late.requires_grad_())
    stream.synchronize()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_a_device_that_is_not_the_current_one() -> None:
    layer, x = layer_on("cuda:1")
    with torch.cuda.device(0):
        found = step(layer, x)
    expected = step(*layer_on("cuda:0"))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu())


def test_more_than_two_to_the_31_elements() -> None:
    rows = 2**31 // 8 + 1000
    if torch.cuda.mem_get_info()[0] < 3 * rows * 8 * 2:
        pytest.skip("not enough memory for two tensors of 2^31 float16")
    case = make_case(1, 8, 8).to("cuda").to(torch.float16)
    x = torch.rand(rows, 8, dtype=torch.float16, device="cuda")
    layer = (case.knots, *case.parameters(), case.basis)
    kernels = triton.kernels(case.spline_weight)
    y = kernels.out(x, None, *layer, 0)
    for part in (slice(0, 100), slice(rows - 100, rows)):
        assert torch.equal(y[part], kernels.out(x[part].clone(), None, *layer, 0))


def test_rounding_of_the_instructions_that_the_interpreter_replaces() -> None:
    # approximate reciprocals and three passes of TF32 against float64
    case: Case = make_case(4096, 64, 64).to("cuda")
    x = case.x.requires_grad_()
    wide = case.to(torch.float64)
    y = triton.kan_linear(case.x, case.knots, *case.parameters(), case.basis)
    truth = kan_fast.kan_linear(
        wide.x, wide.knots, *wide.parameters(), spline_order=3, backend="reference"
    )
    assert (y - truth).abs().max() <= 1e-5 * truth.abs().max()
    assert x.requires_grad
