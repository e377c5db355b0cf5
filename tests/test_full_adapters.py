"""fast-kan's and ChebyKAN's layers, plain and accelerated.

Public copies of the real ones run, and what they leave open is covered by layers written here in
our own words.
"""

from __future__ import annotations

import copy

import beside
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kan_fast
from kan_fast.interop import dispatch

from peers import load_classes  # isort: skip


class Centers(nn.Module):
    def __init__(self, low: float, high: float, count: int) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.linspace(low, high, count), requires_grad=False)
        self.denominator = (high - low) / (count - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-(((x[..., None] - self.grid) / self.denominator) ** 2))


class FastKANLayer(nn.Module):
    """The layer of the current repository: an optional normalisation, a function as activation."""

    def __init__(self, inputs, outputs, num_grids=8, use_layernorm=True, use_base_update=True):
        super().__init__()
        self.layernorm = nn.LayerNorm(inputs) if use_layernorm else None
        self.rbf = Centers(-2.0, 2.0, num_grids)
        self.spline_linear = nn.Linear(inputs * num_grids, outputs, bias=False)
        self.use_base_update = use_base_update
        if use_base_update:
            self.base_activation = F.silu
            self.base_linear = nn.Linear(inputs, outputs)

    def forward(self, x, use_layernorm=True):
        normed = x if self.layernorm is None or not use_layernorm else self.layernorm(x)
        y = self.spline_linear(self.rbf(normed).flatten(-2))
        return y + self.base_linear(self.base_activation(x)) if self.use_base_update else y


class ChebyKANLayer(nn.Module):
    """The layer of the current repository: cos(n arccos t)."""

    def __init__(self, inputs, outputs, degree):
        super().__init__()
        self.inputdim, self.outdim, self.degree = inputs, outputs, degree
        self.cheby_coeffs = nn.Parameter(torch.randn(inputs, outputs, degree + 1) / inputs)
        self.register_buffer("arange", torch.arange(0, degree + 1, 1))

    def forward(self, x):
        t = torch.tanh(x).view(-1, self.inputdim, 1).expand(-1, -1, self.degree + 1)
        basis = (t.acos() * self.arange).cos()
        return torch.einsum("bid,iod->bo", basis, self.cheby_coeffs).view(-1, self.outdim)


LAYERS = {
    "fast-kan": lambda: FastKANLayer(6, 5),
    "fast-kan, bare": lambda: FastKANLayer(6, 5, 4, use_layernorm=False, use_base_update=False),
    "ChebyKAN": lambda: ChebyKANLayer(6, 5, 4),
}
MISSING = ""
for find, name, options in (
    (beside.real_libraries.fast_kan, "FastKANLayer", {}),
    (beside.real_libraries.cheby_kan, "ChebyshevKANLayer", {"degree": 4}),
):
    path, why = beside.or_why_not(find)
    MISSING += why
    if path is not None:
        cls = getattr(load_classes(path), name)
        LAYERS[f"the public {name}"] = lambda cls=cls, options=options: cls(6, 5, **options)


def test_public_copies_are_there() -> None:
    if MISSING:
        pytest.skip(MISSING)
    assert len(LAYERS) == 5


@pytest.fixture
def double() -> None:
    # a public copy makes tensors of the default dtype
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(make) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = make()
    fast = kan_fast.accelerate(copy.deepcopy(plain), strict=True)
    assert dispatch.FLAG in fast.__dict__
    return plain, fast


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_values_gradients_and_training(make) -> None:
    plain, fast = pair(make)
    x = torch.randn(40, 6)
    found = []
    for layer in (plain, fast):
        at = x.clone().requires_grad_()
        y = layer(at)
        leaves = [at, *[p for p in layer.parameters() if p.requires_grad]]
        gradients = torch.autograd.grad(y.square().sum(), leaves)
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            loss = (layer(x) - 1).square().mean()
            loss.backward()
            optimizer.step()
        found.append([y, *gradients, loss])
    for ours, theirs in zip(found[1], found[0], strict=True):
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * max(scale, 1e-3))
    assert plain.state_dict().keys() == fast.state_dict().keys()
    kan_fast.restore(fast)
    assert torch.equal(fast(x), type(plain).forward(fast, x))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_second_derivatives_and_more_dimensions(make, double) -> None:
    plain, fast = pair(make)
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    found = []
    for layer in (plain.double(), fast.double()):
        at = x.clone().requires_grad_()
        try:
            y = layer(at)
        except (RuntimeError, ValueError):
            y = layer(at.view(-1, 6))
        (slope,) = torch.autograd.grad(y.sum(), at, create_graph=True)
        found.append((y, torch.autograd.grad(slope.square().sum(), at)[0]))
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_calls_that_ask_for_something_else_run_the_layer_s_own_code() -> None:
    plain, fast = pair(LAYERS["fast-kan"])
    x = torch.randn(5, 6)
    assert torch.equal(fast(x, use_layernorm=False), plain(x, use_layernorm=False))


@pytest.mark.parametrize("name", ["fast-kan", "ChebyKAN"])
def test_a_compiled_layer_runs_its_own_operators(name: str) -> None:
    plain, fast = pair(LAYERS[name])
    x = torch.randn(5, 6)
    compiled = torch.compile(fast, fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)


def test_edited_layers_are_left_alone() -> None:
    class Scaled(FastKANLayer):
        def forward(self, x, use_layernorm=True):
            return 2 * super().forward(x)

    class Clamped(ChebyKANLayer):
        def forward(self, x):
            t = torch.tanh(x.clamp(-1, 1)).view(-1, self.inputdim, 1)
            basis = (t.expand(-1, -1, self.degree + 1).acos() * self.arange).cos()
            return torch.einsum("bid,iod->bo", basis, self.cheby_coeffs)

    class Trained(FastKANLayer):
        def __init__(self, *args):
            super().__init__(*args)
            self.rbf.grid.requires_grad_()

    for layer, reason in (
        (Scaled(4, 3), "differs from fast-kan"),
        (Clamped(4, 3, 2), r"its forward uses \.clamp"),
        (Trained(4, 3), "rbf.grid is trained"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            kan_fast.accelerate(layer, strict=True)


def test_checkpoints_of_fast_kan_load_into_ours() -> None:
    theirs, ours = FastKANLayer(6, 5), kan_fast.GaussianKANLinear(6, 5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_zero_code_finds_them() -> None:
    kan_fast.install(verify=1)
    try:
        x = torch.randn(7, 6)
        for make in LAYERS.values():
            make()(x)
        from kan_fast.interop import zero_code

        assert f"{len(LAYERS)} of {len(LAYERS)} KAN layers accelerated" in zero_code.summary()
    finally:
        kan_fast.uninstall()
