"""Steps as CUDA graphs: captured once, replayed on new data with new weights."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import beside
import pytest
import torch
from efficient_kan_copies import VendoredKANLinear
from gpu_tools import DEVICE, HAS_GPU, ROWS, assert_equal, assert_near, graph_of, needs_gpu, step
from torch import Tensor, nn

import kan_fast
from kan_fast.interop import dispatch

pytest_plugins = ["gpu_fixtures"]
pytestmark = pytest.mark.usefixtures("nothing_leaks")


def vendored() -> nn.Module:
    """A layer of another library, accelerated."""
    model = nn.Sequential(VendoredKANLinear(4, 40))
    kan_fast.accelerate(model)
    assert all(dispatch.FLAG in layer.__dict__ for layer in model)
    return model


def pykan() -> nn.Module:
    """A model of the real pykan, accelerated, in its fast mode."""
    model = beside.pykan().KAN(width=[4, 5, 1], grid=5, k=3, seed=1, auto_save=False).speed()
    kan_fast.accelerate(model, strict=True)
    return model


#: each with four inputs
MODELS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: kan_fast.KANLinear(4, 40),
    "large grid": lambda: kan_fast.KANLinear(4, 20, grid_size=100),
    "network": lambda: kan_fast.KAN([4, 5, 1]),
    "vendored": vendored,
    "pykan": pykan,
}


def model_and_batches(name: str, count: int = 2 + HAS_GPU) -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    model = MODELS[name]().to(DEVICE)
    return model, [torch.rand(ROWS, 4).mul_(2).sub_(1).to(DEVICE) for _ in range(count)]


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_trains_on_new_data(asked: str, name: str) -> None:
    """Catches launches that a graph does not hold, or holds with yesterday's addresses or values:
    work on another stream, memory that is not the graph's, numbers read on the host."""
    model, batches = model_and_batches(name)
    static = batches[0].clone()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(static).square().mean().backward()
        optimizer.step()

    before = [p.detach().clone() for p in parameters]

    def trained(run: Callable[[], object]) -> list[Tensor]:
        with torch.no_grad():
            for p, start in zip(parameters, before, strict=True):
                p.copy_(start)
        for batch in batches:
            static.copy_(batch)
            run()
        return [p.detach().clone() for p in parameters]

    found = trained(graph_of(train))
    expected = trained(train)
    assert_equal(found, expected)
    assert any(not torch.equal(a, b) for a, b in zip(found, before, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_infers_with_the_weights_of_now(asked: str, name: str) -> None:
    """Catches weights that were packed or copied before the capture and never again."""
    model, batches = model_and_batches(name)
    static, results = batches[0].clone(), {}

    def infer() -> None:
        with torch.no_grad():
            results["y"] = model(static)

    replay = graph_of(infer)
    for batch in batches:
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.mul_(1.25)
        static.copy_(batch)
        replay()
        found = results["y"].clone()
        with torch.no_grad():
            assert_equal([found], [model(batch)])


def test_a_graph_of_second_derivatives(asked: str) -> None:
    """Catches a double backward (physics-informed training) that cannot be captured."""
    model, batches = model_and_batches("network")
    static, results = batches[0].clone().requires_grad_(), {}

    def residual() -> None:
        (slope,) = torch.autograd.grad(model(static).sum(), static, create_graph=True)
        (second,) = torch.autograd.grad(slope[:, 0].sum(), static, create_graph=True)
        loss = second[:, 0].square().mean()
        results["gradients"] = torch.autograd.grad(loss, list(model.parameters()))

    replay = graph_of(residual)
    with torch.no_grad():
        static.copy_(batches[1])
    replay()
    found = [g.clone() for g in results["gradients"]]
    residual()
    assert_equal(found, list(results["gradients"]))


@needs_gpu
def test_graphed_callables_of_torch(asked: str) -> None:
    """Catches what torch's own capture of a module's forward and backward does not stand."""
    model, batches = model_and_batches("network")
    expected = [step(model, b.clone().requires_grad_()) for b in batches]
    graphed = torch.cuda.make_graphed_callables(model, (batches[0].clone().requires_grad_(),))
    for batch, wanted in zip(batches, expected, strict=True):
        assert_equal(step(graphed, batch.clone().requires_grad_()), wanted)


@pytest.mark.parametrize("runner", [(), ("-m", "kan_fast")], ids=["plain", "kan_fast"])
@needs_gpu
def test_the_example_s_graph_trains_as_its_steps_do(asked: str, runner: tuple[str, ...]) -> None:
    """Catches a graph of a whole script, optimizer included, that drifts away from its steps."""
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


# torch.compile: "triton" alone has an operator


@pytest.fixture
def compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kan_fast.envs, "BACKEND", "triton")
    if kan_fast.machine.facts().triton is None:
        pytest.skip(f"Triton: {kan_fast.machine.facts().triton_error}")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["layer", "large grid", "network", "vendored"])
def test_compiled_with_cuda_graphs(compiled_anew: None, name: str) -> None:
    """Catches an operator that inductor keeps out of its CUDA graphs, or whose results and saved
    tensors a later replay overwrites."""
    model, batches = model_and_batches(name, 5 if HAS_GPU else 2)
    how = {"mode": "reduce-overhead"} if HAS_GPU else {"backend": "aot_eager"}
    compiled = torch.compile(model, fullgraph=True, **how)
    for batch in batches:
        torch.compiler.cudagraph_mark_step_begin()
        found = step(compiled, batch.clone().requires_grad_())
        # other kernels of inductor's round the sum otherwise
        assert_near(found, step(model, batch.clone().requires_grad_()), 1e-4)
    with torch.no_grad():
        torch.compiler.cudagraph_mark_step_begin()
        assert_near([compiled(batches[0])], [model(batches[0])])
    assert torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] == 0


def test_a_compiled_model_holds_the_operator(compiled_anew: None) -> None:
    """Catches layers that become plain operators without a word."""
    model, batches = model_and_batches("network")
    found: list[str] = []

    def look(graph: torch.fx.GraphModule, inputs: list) -> object:
        found.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return graph.forward

    compiled = torch.compile(model, backend=look, fullgraph=True)
    assert_near(step(compiled, batches[0].requires_grad_()), step(model, batches[0]))
    assert found.count("kan_fast.kan_linear.default") == 2, found


def test_a_compiled_model_takes_batches_of_any_size(compiled_anew: None) -> None:
    """Catches a graph that is compiled again for every number of rows, or right for one alone."""
    from torch._dynamo.testing import CompileCounterWithBackend

    model, _ = model_and_batches("layer")
    counter = CompileCounterWithBackend("inductor" if HAS_GPU else "aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for rows in (7, 64, 65, ROWS + 3):
        x = torch.rand(rows, 4, device=DEVICE, requires_grad=True)
        assert_near(step(compiled, x), step(model, x), 1e-4)
    assert counter.frame_count == 1
