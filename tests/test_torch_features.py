"""What nn.Linear does with dtypes, strides, processes and flags, ours does too."""

from __future__ import annotations

import multiprocessing

import numpy
import pytest
import torch
from cases import make_case
from judge import native, native_kernels, on
from ranks import on_two_ranks
from torch import nn
from torch.nn.utils import parametrizations, prune

import kan_fast
from kan_fast import reference
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def values_and_gradients(run, case, u: torch.Tensor) -> dict[str, torch.Tensor]:
    names = ("x", "spline_weight", "spline_scaler", "base_weight")
    leaves = [getattr(case, n).detach().clone().requires_grad_() for n in names]
    y = run(leaves[0], case.knots, *leaves[1:], case.basis)
    gradients = torch.autograd.grad(y, leaves, u.to(y.dtype))
    return {"y": y.detach(), **dict(zip(names, gradients, strict=True))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(300, 3, 5, 5), (5000, 4, 40, 5), (200, 20, 12, 20), (7, 9, 1, 3)]
)
def test_the_tolerance_rule_in_every_dtype(isa, dtype, shape) -> None:
    case = make_case(*shape, dtype=torch.float32).to(dtype)
    # away from the knots, where the derivative's float32 cell is everyone's cell
    case.x = (torch.rand(case.x.shape) * 1.8 - 0.9).to(dtype)
    u = torch.randn(shape[0], shape[2]).to(dtype)
    found = values_and_gradients(on(native), case, u)
    truth = values_and_gradients(reference.kan_linear, case.to(torch.float64), u)
    yardstick = values_and_gradients(reference.kan_linear, case, u)
    for name, result in found.items():
        assert result.dtype == dtype
        factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
        doubt = 1e-9 * truth[name].abs().max().item() if dtype == torch.float64 else 0.0
        assert_within_tolerance(name, result, truth[name], yardstick[name], factor, doubt)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_autocast_trains(dtype: torch.dtype, compiled: bool) -> None:
    torch._dynamo.reset()
    model = kan_fast.KAN([6, 8, 3])
    run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
    x = torch.rand(30, 6) - 0.5
    with torch.autocast("cpu", dtype=dtype):
        y = run(x)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    found = [p.grad for p in model.parameters()]
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == torch.float32
        assert (f - e).abs().max() < 0.05 * e.abs().max()


def test_a_half_precision_model_under_autocast_and_grad_scaling() -> None:
    layer = kan_fast.KANLinear(4, 3).to(torch.bfloat16)
    x = torch.rand(9, 4).bfloat16()
    plain = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), plain)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain.detach())


def test_mixed_dtypes_raise_as_for_linear() -> None:
    x = torch.rand(5, 4, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError):
        nn.Linear(4, 3)(x)
    with pytest.raises(TypeError, match="same dtype, got torch.bfloat16 and torch.float32"):
        kan_fast.KANLinear(4, 3)(x)


STRIDED = {
    "transposed": lambda x: x.t().contiguous().t(),
    "sliced": lambda x: torch.stack([x, x], -1).flatten(-2)[:, ::2],
    "reversed rows": lambda x: x.flip(0).as_strided(x.shape, x.stride()).flip(0),
    "expanded rows": lambda x: x[:1].expand(x.shape),
    "expanded columns": lambda x: x[:, :1].expand(x.shape),
    "expanded scalar": lambda x: x[:1, :1].expand(x.shape),
    "offset": lambda x: torch.cat([x.flatten()[:3], x.flatten()])[3:].view(x.shape),
}


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("out_features", [3, 40])
def test_strides_of_inputs_and_gradients(isa, name: str, out_features: int) -> None:
    case = make_case(37, 5, out_features, dtype=torch.float64)
    layer = case.layer()
    x, u = STRIDED[name](case.x), STRIDED[name](torch.randn(37, out_features).double())
    dense = (x.contiguous(), u.contiguous())
    torch.testing.assert_close(
        native_kernels.out(x, None, layer, 0), native_kernels.out(dense[0], None, layer, 0)
    )
    rest = (None, layer, 1, 0, (True,) * 4)
    for a, b in zip(
        native_kernels.in_weight(x, u, *rest), native_kernels.in_weight(*dense, *rest), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_expanded_inputs_are_not_copied() -> None:
    layer = kan_fast.KANLinear(64, 64)
    x = torch.rand(1, 64).expand(20_000, 64)
    from torch.profiler import ProfilerActivity, profile

    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        layer(x)
    allocated = sum(
        e.self_cpu_memory_usage for e in record.key_averages() if e.cpu_memory_usage > 0
    )
    assert allocated <= 20_000 * 64 * 4 * 1.01


def test_replicas_of_data_parallel() -> None:
    layer = kan_fast.KANLinear(4, 3)
    replica = layer._replicate_for_data_parallel()
    # torch's replicate() gives a replica its tensors as plain attributes
    for name, parameter in layer.named_parameters():
        assert name not in replica._parameters
        object.__setattr__(replica, name, parameter * 1)
    x = torch.rand(5, 4)
    y = replica(x)
    torch.testing.assert_close(y, layer(x))
    y.sum().backward()
    assert layer.spline_weight.grad.abs().sum() > 0


def test_parametrised_weights() -> None:
    layer = kan_fast.KANLinear(4, 3)
    x = torch.rand(5, 4)
    torch.nn.utils.parametrizations.weight_norm(layer, "spline_weight")
    y = layer(x)
    y.sum().backward()
    assert layer.parametrizations.spline_weight.original1.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y)


@pytest.mark.parametrize("name", ["spline_weight", "spline_scaler", "base_weight"])
def test_pruned_and_parametrised_tensors_count(name: str) -> None:
    # both replace the parameter of that name by a computed attribute
    x = torch.rand(5, 4)
    for alter in (
        lambda m: prune.random_unstructured(m, name, amount=0.5),
        lambda m: parametrizations.weight_norm(m, name),
    ):
        model = kan_fast.KAN([4, 3])
        layer = model.layers[0]
        alter(layer)
        expected = reference.kan_linear(
            x, layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight,
            kan_fast.spec.WindowedBasis(3),
        )  # fmt: skip
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(model(x), expected)
        with torch.no_grad():
            torch.testing.assert_close(model(x), expected)


def test_deterministic_flag_and_repeats() -> None:
    case = make_case(700, 7, 33)
    layer = case.layer()
    u = torch.randn(700, 33)
    torch.use_deterministic_algorithms(True)
    try:
        y = native_kernels.out(case.x, None, layer, 0)
        gradients = native_kernels.in_weight(case.x, u, None, layer, 1, 0, (True,) * 4)
        for _ in range(250):
            assert torch.equal(native_kernels.out(case.x, None, layer, 0), y)
            again = native_kernels.in_weight(case.x, u, None, layer, 1, 0, (True,) * 4)
            assert all(map(torch.equal, again, gradients))
    finally:
        torch.use_deterministic_algorithms(False)


def test_meta_tensors_have_shapes() -> None:
    layer = kan_fast.KANLinear(4, 3, device="meta")
    assert layer(torch.rand(5, 4, device="meta")).shape == (5, 3)
    layer.to_empty(device="cpu")
    layer.reset_grid()
    layer.reset_parameters()
    assert layer(torch.rand(5, 4)).isfinite().all()


def _trained(rank: int) -> list:
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(kan_fast.KAN([3, 5, 2]))
    x = torch.rand(8, 3)[rank * 4 : rank * 4 + 4]
    model(x).square().mean().backward()
    return [p.grad.numpy() for p in model.parameters()]


def test_ddp_over_gloo_averages_gradients() -> None:
    found = on_two_ranks(_trained)[0]
    torch.manual_seed(0)
    model = kan_fast.KAN([3, 5, 2])
    model(torch.rand(8, 3)).square().mean().backward()
    for f, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(torch.from_numpy(f), p.grad, rtol=1e-4, atol=1e-6)


def _forked(layer: nn.Module, x: torch.Tensor, results) -> None:
    y = layer(x)
    y.backward(torch.ones_like(y))
    results.put([y.detach().numpy(), layer.spline_weight.grad.numpy()])


def _forking(results) -> None:
    layer = kan_fast.KANLinear(40, 40)
    x = torch.rand(500, 40) - 0.5
    y = layer(x)
    y.backward(torch.ones_like(y))
    expected = [y.detach().numpy(), layer.spline_weight.grad.numpy()]
    layer.zero_grad()
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    child = context.Process(target=_forked, args=(layer, x, found))
    child.start()
    try:
        results.put((expected, found.get(timeout=60)))
    finally:
        child.kill()
        child.join()


def test_fork_after_use() -> None:
    # as a DataLoader's workers are: the parent has used its threads already. The parent is a new
    # process, since torch's CUDA builds refuse a backward in a fork of one that has compiled
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    parent = context.Process(target=_forking, args=(results,))
    parent.start()
    try:
        expected, found = results.get(timeout=120)
    finally:
        parent.kill()
        parent.join()
    for f, e in zip(found, expected, strict=True):
        numpy.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-5)
