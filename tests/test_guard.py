"""An accelerated layer beside its plain twin while both are edited: values and all gradients equal,
and a kernel runs exactly where the plain code would have done the same."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from efficient_kan_copies import ViewKANLinear
from test_full_adapters import ChebyKANLayer, FastKANLayer
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import kan_fast
from kan_fast.interop import dispatch

MAKERS = {
    "efficient-kan": lambda: ViewKANLinear(4, 3),
    "fast-kan": lambda: FastKANLayer(4, 3),
    "ChebyKAN": lambda: ChebyKANLayer(4, 3, 3),
}


def twins(kind: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = MAKERS[kind]().double()
    return plain, kan_fast.accelerate(copy.deepcopy(plain), strict=True)


def found(layer: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    """Value and gradients, None where there is none."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.square().sum().backward()
    return {"y": y.detach(), "x": x.grad, **{n: p.grad for n, p in layer.named_parameters()}}


def runs(layer: nn.Module) -> tuple[int, int]:
    mark = layer.__dict__[dispatch.FLAG]
    return sum(mark.runs.by.values()), sum(mark.runs.own.values())


def equal(plain: nn.Module, fast: nn.Module) -> None:
    x = torch.randn(7, 4, dtype=torch.float64)
    theirs, ours = found(plain, x), found(fast, x)
    assert theirs.keys() == ours.keys()
    for name, truth in theirs.items():
        if truth is None:
            assert ours[name] is None, name
        else:
            torch.testing.assert_close(ours[name], truth, rtol=1e-8, atol=1e-10, msg=name)


class Lora(nn.Module):
    """A wrapper that has the wrapped layer's tensors and computes more."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.ones(2, base.in_features, dtype=torch.float64) / 7)
        self.up = nn.Parameter(torch.ones(base.out_features, 2, dtype=torch.float64) / 3)

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def patched(layer: nn.Module) -> None:
    own = type(layer).forward
    layer.forward = lambda x: 2 * own(layer, x)


def subclassed(layer: nn.Module) -> None:
    class Gated(type(layer)):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.gate

    layer.gate = nn.Parameter(torch.ones((), dtype=torch.float64))
    layer.__class__ = Gated


def scaled_splines(layer: nn.Module) -> None:
    class Gated(type(layer)):
        @property
        def scaled_spline_weight(self) -> Tensor:
            return super().scaled_spline_weight * self.gate

    layer.gate = nn.Parameter(torch.ones((), dtype=torch.float64))
    layer.__class__ = Gated


def without_slope(layer: nn.Module) -> None:
    class Constant(type(layer)):
        @torch.no_grad()
        def b_splines(self, x: Tensor) -> Tensor:
            return super().b_splines(x)

    layer.__class__ = Constant


def own_splines(layer: nn.Module) -> None:
    own = type(layer).b_splines
    layer.b_splines = lambda x: own(layer, x).detach()


def lookup(layer: nn.Module) -> None:
    class Looking(type(layer)):
        def __getattr__(self, name: str):
            value = super().__getattr__(name)
            return value * 3 if name in ("spline_weight", "cheby_coeffs") else value

    layer.__class__ = Looking


def trained_grid(layer: nn.Module) -> None:
    owner = layer.rbf if hasattr(layer, "rbf") else layer
    grid = owner.grid.detach().clone()
    for names in (owner._parameters, owner._buffers):
        names.pop("grid", None)
    owner.grid = nn.Parameter(grid)


def other_grid(layer: nn.Module) -> None:
    owner = layer.rbf if hasattr(layer, "rbf") else layer
    owner.grid.data = owner.grid.data * 1.25


def one_row(layer: nn.Module) -> None:
    layer.grid = layer.grid[:1].clone()


EDITS = {
    "forward of the instance": (patched, "", None),
    "a subclass with a gate": (subclassed, "", False),
    "a class that looks attributes up": (lookup, "", False),
    "a gate in scaled_spline_weight": (scaled_splines, "efficient", False),
    "b_splines without a gradient": (without_slope, "efficient", False),
    "b_splines of the instance": (own_splines, "efficient", False),
    "a trained grid": (trained_grid, "-kan", False),
    "a moved grid": (other_grid, "-kan", True),
    "one row of knots": (one_row, "efficient", True),
    "another activation": (
        lambda m: setattr(m, "base_activation", nn.Tanh()), "efficient", True,
    ),
    "a function as activation": (lambda m: setattr(m, "base_activation", torch.sin), "fast", True),
    "a watched activation": (
        lambda m: m.base_activation.register_forward_hook(lambda m, i, o: 2 * o),
        "efficient", True,
    ),
    "a patched activation": (
        lambda m: setattr(m.base_activation, "forward", lambda x: x.sin()), "efficient", True,
    ),
    "spectral_norm": (
        lambda m: torch.nn.utils.spectral_norm(m.eval().spline_linear), "fast", False,
    ),
    "parametrised spectral norm": (
        lambda m: parametrizations.spectral_norm(m.eval().spline_linear), "fast", False,
    ),
    "weight_norm": (lambda m: parametrizations.weight_norm(m.spline_linear), "fast", False),
    "pruning": (
        lambda m: prune.l1_unstructured(m.spline_linear, "weight", 0.4), "fast", False,
    ),
    "LoRA": (lambda m: setattr(m, "spline_linear", Lora(m.spline_linear)), "fast", False),
    "LoRA of the base": (lambda m: setattr(m, "base_linear", Lora(m.base_linear)), "fast", True),
    "another normalisation": (lambda m: setattr(m, "layernorm", Doubled()), "fast", True),
    "no normalisation": (lambda m: setattr(m, "layernorm", None), "fast", True),
    "another width": (lambda m: setattr(m.rbf, "denominator", 0.9), "fast", True),
    "a trained width": (
        lambda m: setattr(m.rbf, "denominator", torch.ones((), dtype=torch.float64)), "fast", False,
    ),
    "a hook on the functions": (
        lambda m: m.rbf.register_forward_hook(lambda m, i, o: 2 * o), "fast", False,
    ),
    "a hook on the layer": (
        lambda m: m.register_forward_hook(lambda m, i, o: 2 * o), "", True,
    ),
    "a frozen weight": (lambda m: next(m.parameters()).requires_grad_(False), "", True),
    "a parametrised layer": (
        lambda m: parametrize.register_parametrization(
            m, "spline_weight" if hasattr(m, "spline_weight") else "cheby_coeffs", Doubled()
        ),
        "e", None,
    ),
    "numbers through data": (lambda m: next(m.parameters()).data.mul_(1.5), "", True),
    "numbers through numpy": (
        lambda m: next(m.parameters()).detach().numpy().__imul__(1.5), "", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for n, (_, of, _) in EDITS.items() for k in MAKERS if of in k],
)
def test_edits_count_at_the_next_call(kind: str, name: str) -> None:
    edit, _, kernel = EDITS[name]
    plain, fast = twins(kind)
    if name == "a parametrised layer" and kind == "fast-kan":
        pytest.skip("its tensors are its submodules'")
    equal(plain, fast)
    assert runs(fast) == (1, 0)
    for layer in (plain, fast):
        torch.manual_seed(1)
        edit(layer)
    equal(plain, fast)
    if kernel is not None:
        assert runs(fast) == ((2, 0) if kernel else (1, 1))


def test_an_edit_that_is_undone_brings_the_kernel_back() -> None:
    plain, fast = twins("efficient-kan")
    for layer in (plain, fast):
        own_splines(layer)
    equal(plain, fast)
    for layer in (plain, fast):
        del layer.b_splines
        layer.grid.requires_grad_()
    equal(plain, fast)
    for layer in (plain, fast):
        layer.grid.requires_grad_(False)
    equal(plain, fast)
    assert runs(fast) == (1, 2)


def test_a_layer_that_goes_back_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._said.clear()
    _, fast = twins("efficient-kan")
    own_splines(fast)
    with caplog.at_level(logging.WARNING, "kan_fast"):
        for _ in range(3):
            fast(torch.rand(2, 4, dtype=torch.float64))
    assert caplog.text.count("this instance has a b_splines of its own") == 1
    (skipped,) = kan_fast.report(fast).skipped
    assert "b_splines" in skipped.reason
    assert "b_splines" in kan_fast.explain(fast, torch.rand(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("kind", MAKERS)
def test_calls_that_the_kernels_do_not_take_are_the_plain_code_s(kind: str) -> None:
    plain, fast = twins(kind)
    for x in (torch.rand(5, 4), torch.ones(5, 4, dtype=torch.int64), torch.rand(5, 6).double()):
        outcomes = []
        for layer in (plain, fast):
            try:
                outcomes.append(layer(x))
            except Exception as error:
                outcomes.append(type(error))
        if isinstance(outcomes[0], Tensor):
            torch.testing.assert_close(outcomes[1], outcomes[0])
        else:
            assert outcomes[1] is outcomes[0]
    assert runs(fast) == (0, 3)


def test_keywords_and_neutral_arguments_run_the_kernel() -> None:
    x = torch.randn(5, 4, dtype=torch.float64)
    for kind in MAKERS:
        plain, fast = twins(kind)
        torch.testing.assert_close(fast(x=x), plain(x=x))
        assert runs(fast) == (1, 0)
    plain, fast = twins("fast-kan")
    for kwargs in ({"use_layernorm": True}, {"use_layernorm": False}):
        torch.testing.assert_close(fast(x, **kwargs), plain(x, **kwargs))
    assert runs(fast) == (1, 1)


def test_a_batch_whose_memory_is_taken_between_forward_and_backward() -> None:
    plain, fast = twins("efficient-kan")
    gradients = []
    for layer in (plain, fast):
        memory = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        y = layer(torch.from_numpy(memory.numpy()))
        memory.numpy()[:] = 0.3
        layer.grid += 0.1
        y.square().sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_one_value_equal_is_not_enough() -> None:
    class Gated(FastKANLayer):
        def __init__(self, *args):
            super().__init__(*args)
            self.register_buffer("mask", torch.ones(3))

        def forward(self, x, use_layernorm=True):
            return super().forward(x) * self.mask

    class Masked(ChebyKANLayer):
        def __init__(self, *args):
            super().__init__(*args)
            self.shift = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return super().forward(x) + self.shift

    class Silent(FastKANLayer):
        def forward(self, x, use_layernorm=True):
            with torch.no_grad():
                basis = self.rbf(self.layernorm(x)).flatten(-2)
            return self.spline_linear(basis) + self.base_linear(F.silu(x))

    for layer in (Gated(4, 3), Masked(4, 3, 2), Silent(4, 3)):
        with pytest.raises(RuntimeError, match="uses"):
            kan_fast.accelerate(layer, strict=True)


def test_gradients_are_compared_at_other_states() -> None:
    """What the source does not show: a helper that a method calls has another slope."""
    from kan_fast.interop.adapters.self_check import differs

    layer = FastKANLayer(4, 3)
    inputs = lambda twin: torch.randn(9, 4, dtype=torch.float64)  # noqa: E731

    def expected(twin, x):
        return type(twin).forward(twin, x)

    assert differs(layer, inputs, expected, "itself", ()) is None

    def without(twin, x):
        return twin.spline_linear(twin.rbf(twin.layernorm(x)).flatten(-2)) + twin.base_linear(
            F.silu(x.detach())
        )

    assert "gradient of its input" in differs(layer, inputs, without, "another", ())
