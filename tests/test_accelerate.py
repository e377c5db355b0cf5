"""The drop-in: what is recognised, what is refused, and what stays as it was."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from efficient_kan_copies import (
    EDITED,
    VARIANTS,
    EditedRecorder,
    ReshapeKANLinear,
    VendoredKANLinear,
)
from torch import nn

import kan_fast
from kan_fast import envs
from kan_fast.interop.accelerate import LayerReport


def native_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward that reaches the kernels from here on."""
    from judge import native_kernels

    calls: list[int] = []
    original = native_kernels.out
    monkeypatch.setattr(
        native_kernels, "out", lambda *a: calls.append(a[0].shape[0]) or original(*a)
    )
    return calls


@pytest.mark.parametrize("standalone", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("cls", VARIANTS, ids=lambda c: c.__name__)
def test_variants_are_recognised(cls, standalone, monkeypatch) -> None:
    model = nn.Sequential(cls(4, 6, enable_standalone_scale_spline=standalone), cls(6, 2))
    x = torch.rand(11, 4) * 4 - 2
    x.requires_grad_()

    def values() -> list[torch.Tensor]:
        y = model(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])]

    plain = values()
    assert kan_fast.accelerate(model) is model
    calls = native_calls(monkeypatch)
    for ours, theirs in zip(values(), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert calls == [11, 11]
    kan_fast.restore(model)
    for ours, theirs in zip(values(), plain, strict=True):
        assert torch.equal(ours, theirs)
    assert calls == [11, 11]


@pytest.mark.parametrize("cls", EDITED, ids=lambda c: c.__name__)
def test_edited_copies_are_left_alone_and_named(cls, capsys, monkeypatch) -> None:
    model = nn.ModuleDict({"plain": VendoredKANLinear(3, 2), "edited": cls(3, 2)})
    with pytest.warns(UserWarning, match="1 of 2 KAN layers accelerated\n  skipped edited"):
        kan_fast.accelerate(model)
    calls = native_calls(monkeypatch)
    model["edited"](torch.rand(5, 3))
    assert calls == []
    report = kan_fast.report(model)
    assert [r.name for r in report.accelerated] == ["plain"]
    (skipped,) = report.skipped
    assert (skipped.name, skipped.kind) == ("edited", "efficient-kan")
    assert "forward" in skipped.reason
    printed = capsys.readouterr().out
    assert "kan_fast: 1 of 2 KAN layers accelerated" in printed and skipped.reason in printed
    with pytest.raises(RuntimeError, match="strict=False"):
        kan_fast.accelerate(model, strict=True)


def test_a_recorder_still_records() -> None:
    layer = kan_fast.accelerate(EditedRecorder(3, 2))
    x = torch.rand(4, 3)
    layer(x)
    assert layer.last_input is x


def test_one_more_check_shape() -> None:
    layer = VendoredKANLinear(3, 2)
    layer.spline_weight = nn.Parameter(torch.zeros(2, 3, 7))
    (skipped,) = kan_fast.report(kan_fast.accelerate(layer)).skipped
    assert "spline_weight should be a tensor of shape (2, 3, 8), got (2, 3, 7)" in skipped.reason


def test_models_without_kan_layers_pass_through() -> None:
    model = nn.Linear(2, 2)
    assert kan_fast.accelerate(model, strict=True) is model
    assert kan_fast.report(model) == kan_fast.Report((), ())
    with pytest.raises(TypeError, match="must be a torch.nn.Module"):
        kan_fast.accelerate(lambda x: x)


def test_an_optimizer_made_before_still_trains() -> None:
    model = VendoredKANLinear(3, 2)
    before = {n: p for n, p in model.named_parameters()}
    state = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    kan_fast.accelerate(model)
    assert {n: p for n, p in model.named_parameters()} == before
    assert list(model.state_dict()) == list(state)
    assert isinstance(model, VendoredKANLinear)
    model(torch.rand(8, 3)).square().sum().backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]) == (name == "grid"), name


def test_copies_and_pickles_work(monkeypatch) -> None:
    model = kan_fast.accelerate(nn.Sequential(VendoredKANLinear(3, 2)))
    x = torch.rand(5, 3)
    y = model(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    fresh = nn.Sequential(VendoredKANLinear(3, 2))
    fresh.load_state_dict(model.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(model)
    calls = native_calls(monkeypatch)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded, averaged]
    for twin in twins:
        assert torch.equal(twin(x), y)
    assert calls == [5] * len(twins)
    # an instance made later runs its own forward until it is accelerated too
    torch.testing.assert_close(fresh(x), y)
    assert len(calls) == len(twins)


def test_replicas_share_the_forward(monkeypatch) -> None:
    # what DataParallel does to a module, without devices: a shallow copy with its own __dict__
    layer = kan_fast.accelerate(VendoredKANLinear(3, 2))
    replica = layer._replicate_for_data_parallel()
    for name, p in layer.named_parameters():
        setattr(replica, name, p.detach() * 2)
    replica.grid = layer.grid
    calls = native_calls(monkeypatch)
    x = torch.rand(4, 3)
    assert not torch.equal(replica(x), layer(x))
    assert calls == [4, 4]


def test_hooks_modes_and_moves(monkeypatch) -> None:
    layer = kan_fast.accelerate(VendoredKANLinear(3, 2))
    seen = []
    layer.register_forward_hook(lambda m, args, y: seen.append(y.dtype))
    calls = native_calls(monkeypatch)
    x = torch.rand(4, 3)
    layer.eval()(x)
    layer.double()(x.double())
    assert seen == [torch.float32, torch.float64]
    assert calls == [4, 4]
    # half precision runs the kernels too, which round once at the end
    layer.bfloat16()
    y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16 and calls == [4, 4, 4]
    exact = copy.deepcopy(layer).double()(x.bfloat16().double())
    assert (y - exact).abs().max() <= torch.finfo(torch.bfloat16).eps * exact.abs().max()


def test_other_activations_run_beside(monkeypatch) -> None:
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(3 * x)

    for activation in (Sine, nn.GELU, nn.Identity, lambda: torch.cos):
        layer = VendoredKANLinear(3, 2, base_activation=activation)
        x = torch.rand(6, 3, requires_grad=True)
        y = layer(x)
        slope = torch.autograd.grad(y.sum(), x)
        kan_fast.accelerate(layer, strict=True)
        torch.testing.assert_close(layer(x), y)
        torch.testing.assert_close(torch.autograd.grad(layer(x).sum(), x), slope)


def test_other_dimensions_are_taken_where_the_copy_takes_them(monkeypatch, caplog) -> None:
    layer = kan_fast.accelerate(VendoredKANLinear(3, 2))
    for _ in range(2):
        with pytest.raises(AssertionError):
            layer(torch.rand(2, 4, 3))
    layer = kan_fast.accelerate(ReshapeKANLinear(3, 2))
    calls = native_calls(monkeypatch)
    for _ in range(3):
        assert layer(torch.rand(2, 4, 3)).shape == (2, 4, 2)
    # its own code has shown once that it takes them, which is nothing to warn of
    assert calls == [8, 8, 8] and not caplog.records


def test_under_the_compiler_a_layer_is_one_operator(monkeypatch) -> None:
    model = nn.Sequential(VendoredKANLinear(3, 4), VendoredKANLinear(4, 2))
    x = torch.rand(6, 3, requires_grad=True)
    parameters = [x, *model.parameters()]
    y = model(x)
    expected = torch.autograd.grad(y.square().sum(), parameters)
    kan_fast.accelerate(model)
    targets = []

    def look(graph: torch.fx.GraphModule, inputs: list) -> object:
        targets.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return graph.forward

    torch.compile(model, backend=look, fullgraph=True)(x)
    assert [t for t in targets if t.startswith("kan_fast")] == ["kan_fast.kan_linear.default"] * 2
    assert not [t for t in targets if "aten" in t or "bmm" in t or "matmul" in t]
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), y)
    found = torch.autograd.grad(compiled(x).square().sum(), parameters)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-6)
    # a graph to export holds torch's own operators, whoever traces it
    for strict in (False, True):
        exported = torch.export.export(model, (x,), strict=strict)
        assert "kan_fast" not in str(exported.graph)
        torch.testing.assert_close(exported.module()(x), y)


def test_disable(monkeypatch) -> None:
    monkeypatch.setattr(envs, "DISABLE", True)
    layer = kan_fast.accelerate(VendoredKANLinear(3, 2))
    (skipped,) = kan_fast.report(layer).skipped
    assert skipped == LayerReport("", "efficient-kan", "KAN_FAST_DISABLE is set")


def test_explain_names_what_runs_and_why_not(capsys) -> None:
    model = nn.Sequential(kan_fast.KANLinear(3, 4), VendoredKANLinear(4, 4), EditedRecorder(4, 2))
    kan_fast.accelerate(model)
    text = kan_fast.explain(model, torch.rand(5, 3))
    lines = text.splitlines()
    assert lines[0].startswith("0: native (3 -> 4")
    assert lines[1].startswith("1: native (4 -> 4")
    assert lines[2].startswith("2: its own forward") and "not accelerated" in lines[2]
    assert text in capsys.readouterr().out
    meta = kan_fast.explain(copy.deepcopy(model)[:2].to("meta"), torch.rand(5, 3, device="meta"))
    assert "0: reference" in meta and "1: its own forward" in meta
    assert "run on cpu tensors, got meta" in meta


def test_the_check_leaves_no_trace() -> None:
    layer = VendoredKANLinear(3, 2)
    layer.train()
    state = torch.get_rng_state()
    before = copy.deepcopy(layer.state_dict())
    kan_fast.accelerate(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.training
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
