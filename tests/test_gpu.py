"""What only a GPU shows of single launches: which backend, how many, and how they round."""

from __future__ import annotations

import pytest
import torch
from cases import Case, make_case
from gpu_tools import layer_on, step
from judge import on, triton

import kan_fast
from kan_fast import envs, machine
from kan_fast.ops.plan import plan_for

if not torch.cuda.is_available():
    pytest.skip("torch sees no CUDA GPU here", allow_module_level=True)

import gpu_timing  # noqa: E402

pytest_plugins = ["gpu_fixtures"]
pytestmark = pytest.mark.usefixtures("nothing_leaks")


def test_auto_runs_triton() -> None:
    """Catches a planner that finds a reason against the GPU's kernels."""
    layer, x = layer_on()
    assert plan_for(x, layer.spline_weight, layer.spline_order).backend == "triton"


@pytest.mark.parametrize("widths", [(2, 5, 1), (4, 10, 10, 1), (2, 8, 8, 8, 2)], ids=str)
def test_a_network_is_one_launch(widths: tuple[int, ...], monkeypatch) -> None:
    """Catches small networks that run layer by layer without a word."""
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
    """Catches a kernel more than a step needs: copies, packing twice, sums that could be fused."""
    layer, x = layer_on(grid_size=grid_size)
    forward = gpu_timing.launches(lambda: layer(x))
    whole = gpu_timing.launches(lambda: step(layer, x))
    ours = ("contract", "unfold", "gather", "pack")
    count = {
        name: sum(n for k, n in found.items() if k.startswith(ours))
        for name, found in (("forward", forward), ("step", whole))
    }
    # gathering packs the weights once more in each direction
    assert count == ({"forward": 1, "step": 3} if grid_size == 5 else {"forward": 2, "step": 6})
    # and nothing but ours without gradients
    with torch.no_grad():
        assert sum(gpu_timing.launches(lambda: layer(x)).values()) == count["forward"]


def test_rounding_of_the_instructions_that_the_interpreter_replaces() -> None:
    """Catches approximate reciprocals or three passes of TF32 that lose more than float32."""
    case: Case = make_case(4096, 64, 64).to("cuda")
    wide = case.to(torch.float64)
    y = on(triton)(case.x, case.knots, *case.parameters(), case.basis)
    truth = kan_fast.kan_linear(
        wide.x, wide.knots, *wide.parameters(), spline_order=3, backend="reference"
    )
    assert (y - truth).abs().max() <= 1e-5 * truth.abs().max()
