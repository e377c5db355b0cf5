"""torch.compile: one operator a layer, no graph break, no recompilation for another batch size."""

from __future__ import annotations

import pytest
import torch
from cases import make_case
from torch._dynamo.testing import CompileCounter
from torch.autograd import forward_ad

import kan_fast
from kan_fast.errors import DerivativeError
from kan_fast.ops.operators import kan_linear_backward_op, kan_linear_op


def gradients(function, model, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])]


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fullgraph_equals_eager(backend: str, dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    model = kan_fast.KAN([3, 5, 2]).to(dtype)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for shape in [(7, 3), (4, 6, 3)]:
        x = torch.rand(shape, dtype=dtype)
        for ours, eager in zip(
            gradients(compiled, model, x), gradients(model, model, x), strict=True
        ):
            torch.testing.assert_close(ours, eager)


def test_another_batch_size_does_not_recompile() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    model = kan_fast.KAN([3, 5, 2])
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for rows in (2, 7, 64, 65, 1000):
        compiled(torch.rand(rows, 3))
    assert counter.frame_count == 1


def test_a_graph_holds_one_operator_a_layer() -> None:
    torch._dynamo.reset()
    found = []

    def look(graph: torch.fx.GraphModule, inputs: list) -> object:
        found.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return graph.forward

    torch.compile(kan_fast.KAN([3, 5, 2]), backend=look, fullgraph=True)(torch.rand(4, 3))
    # the question whether a torch.func transform is active costs nothing at run time
    work = [name for name in found if "_are_functorch_transforms_active" not in name]
    assert work == ["kan_fast.kan_linear.default"] * 2


def test_what_gpus_can_do_is_a_constant_of_a_graph() -> None:
    from kan_fast import machine

    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: x + 1 if machine.all_capable() else x, backend="eager", fullgraph=True
    )
    # without a GPU all GPUs are capable
    assert torch.equal(compiled(torch.zeros(2)), torch.ones(2)) == machine.all_capable()


def test_no_kernel_no_problem() -> None:
    torch._dynamo.reset()
    layer = kan_fast.KANLinear(3, 2).bfloat16()
    x = torch.rand(4, 3, dtype=torch.bfloat16)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), layer(x))


def test_autocast_and_other_activations_in_a_graph() -> None:
    torch._dynamo.reset()
    layer = kan_fast.KANLinear(3, 2, base_activation=lambda: torch.cos)
    x = torch.rand(4, 3)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = compiled(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y, layer(x))


def test_a_second_derivative_raises_instead_of_vanishing() -> None:
    case = make_case(5, 3, 2)
    x = case.x.requires_grad_()
    y = kan_linear_op(x, case.knots, *case.parameters(), 3, "silu")
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(DerivativeError, match="first derivatives only"):
        slope.sum().backward()


def test_transforms_inside_a_graph_use_the_oracle() -> None:
    torch._dynamo.reset()
    layer = kan_fast.KANLinear(3, 2).double()
    x = torch.rand(4, 3, dtype=torch.float64)

    def slope(x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda t: layer(t).square().sum())(x)

    compiled = torch.compile(slope, backend="eager")
    torch.testing.assert_close(compiled(x), slope(x))


def tangent(function, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, t))).tangent


def test_the_operator_refuses_tangents_instead_of_losing_them() -> None:
    case = make_case(5, 3, 2)

    def run(x: torch.Tensor) -> torch.Tensor:
        return kan_linear_op(x, case.knots, *case.parameters(), 3, "silu")

    with pytest.raises(DerivativeError, match="no forward-mode derivative"):
        torch.func.jvp(run, (case.x,), (torch.ones_like(case.x),))
    with pytest.raises((DerivativeError, NotImplementedError)):
        tangent(run, case.x, torch.ones_like(case.x))
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda x: run(x).sum())(case.x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_transforms_around_and_inside_compiled_layers(backend: str) -> None:
    torch._dynamo.reset()
    layer = kan_fast.KANLinear(3, 2).double()
    x = torch.rand(4, 3, dtype=torch.float64) - 0.5
    t = torch.randn_like(x)
    compiled = torch.compile(layer, backend=backend)
    torch.testing.assert_close(compiled(x), layer(x))
    (expected,) = torch.autograd.functional.jvp(layer, x, t)[1:]
    if backend == "eager":  # the other wraps its graphs in Functions of its own, which refuse
        torch.testing.assert_close(tangent(compiled, x, t), expected)
    torch.testing.assert_close(torch.func.jvp(compiled, (x,), (t,))[1], expected)
    torch.testing.assert_close(torch.func.vmap(compiled)(x), layer(x))
    for inside in (
        lambda x: tangent(layer, x, t),
        lambda x: torch.func.jvp(layer, (x,), (t,))[1],
    ):
        torch.testing.assert_close(torch.compile(inside, backend=backend)(x), expected)
    for transform in (torch.func.jacfwd, torch.func.jacrev, torch.func.hessian):
        found = torch.compile(transform(layer), backend=backend)(x[0])
        torch.testing.assert_close(found, transform(layer)(x[0]))


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("base", [True, False], ids=["base", "no-base"])
def test_opcheck(scaler: bool, base: bool) -> None:
    case = make_case(5, 3, 2, scaler=scaler, base=base)
    leaves = [
        None if t is None else t.clone().requires_grad_()
        for t in (case.x, *case.parameters())
    ]  # fmt: skip
    arguments = (leaves[0], case.knots, *leaves[1:], 3, "silu")
    torch.library.opcheck(kan_linear_op, arguments)
    u = torch.rand(5, 2)
    need = [True, True, scaler, base]
    arguments = (case.x, u, case.knots, *case.parameters(), 3, "silu", need)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(kan_linear_backward_op, arguments, test_utils=tests)
