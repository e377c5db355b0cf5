"""Ways in which an accelerated layer once differed from its plain twin, found by reviews."""

from __future__ import annotations

import copy
import inspect

import beside
import pytest
import torch
from efficient_kan_copies import ViewKANLinear
from test_guard import MAKERS, equal, runs, twins
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import kan_fast

KINDS = sorted(MAKERS)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def negated(*shape: int) -> Tensor:
    """A view that stands for the negative of its memory."""
    x = torch.randn(*shape, dtype=torch.complex128).conj().imag
    assert x.is_neg()
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_whose_numbers_are_not_at_their_address(kind: str) -> None:
    plain, fast = twins(kind)
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        if p.requires_grad:
            p.data = q.data = negated(*p.shape)
    x = negated(7, 4)
    for u in (negated(7, 3), torch._efficientzerotensor((7, 3), dtype=torch.float64)):
        ours, theirs = fast(x), plain(x)
        close(ours, theirs)
        names = [n for n, p in plain.named_parameters() if p.requires_grad]
        found = [
            torch.autograd.grad(y, [layer.get_parameter(n) for n in names], u, allow_unused=True)
            for y, layer in ((ours, fast), (theirs, plain))
        ]
        for a, b in zip(*found, strict=True):
            close(a, b)


def test_grids_are_fitted_to_samples_that_are_not_at_their_address() -> None:
    x = torch.rand(60, 2) * 2 - 1
    view = torch._neg_view(-x)
    assert view.is_neg() and torch.equal(view, x)
    found = []
    for samples in (x, view):
        layer = kan_fast.KANLinear(2, 3)
        torch.nn.init.ones_(layer.spline_weight)
        layer.update_grid(samples)
        found.append((layer.grid, layer.spline_weight.detach()))
    for wanted, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("shape", [(7, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_that_recompute(kind: str, shape: tuple[int, ...]) -> None:
    plain, fast = twins(kind)
    fast = copy.deepcopy(fast)  # which is recognised inside of the first checkpoint
    x = torch.randn(*shape, dtype=torch.float64)
    for _ in range(2):
        found = []
        for layer in (plain, fast):
            at = x.clone().requires_grad_()
            layer.zero_grad()
            checkpoint(layer, at, use_reentrant=False).square().sum().backward()
            found.append([at.grad, *[p.grad for p in layer.parameters() if p.requires_grad]])
        for theirs, ours in zip(*found, strict=True):
            close(ours, theirs)
    # a recomputation ends before its calls are counted
    assert runs(fast) == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_one_parameter_alone(kind: str) -> None:
    plain, fast = twins(kind)
    x = torch.randn(7, 4, dtype=torch.float64)
    for name, p in plain.named_parameters():
        if p.requires_grad:
            ours = fast.get_parameter(name)
            (wanted,) = torch.autograd.grad(plain(x).square().sum(), p)
            close(torch.autograd.grad(fast(x).square().sum(), ours)[0], wanted)
            fast.zero_grad()
            fast(x).square().sum().backward(inputs=[ours])
            close(ours.grad, wanted)


@pytest.mark.parametrize("kind", ["efficient-kan", "fast-kan"])
def test_activations_in_place(kind: str) -> None:
    x = torch.randn(7, 4, dtype=torch.float64)
    found = []
    for layer in twins(kind):
        layer.base_activation = nn.SiLU(inplace=True)
        at = x.clone()
        with torch.no_grad():
            found.append((layer(at), at))
    for theirs, ours in zip(*found, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize(("kind", "name"), [("efficient-kan", "grid"), ("fast-kan", "rbf.grid")])
def test_tangents_of_a_grid(kind: str, name: str) -> None:
    x = torch.randn(7, 4, dtype=torch.float64)
    found = []
    for layer in twins(kind):
        state = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        grid = state[name].detach()
        tangent = torch.linspace(-1, 1, grid.numel(), dtype=grid.dtype).reshape(grid.shape)
        with forward_ad.dual_level():
            given = {name: forward_ad.make_dual(grid, tangent)}
            y = functional_call(layer, given, (x,))
            found.append(forward_ad.unpack_dual(y).tangent)
    close(found[1], found[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_layer_is_compiled_as_it_is(kind: str) -> None:
    plain, fast = twins(kind)
    x = torch.randn(7, 4, dtype=torch.float64)
    for layer in (plain, fast):
        layer.__class__ = type("Doubling", (type(layer),), {"forward": doubled(type(layer))})
    torch._dynamo.reset()
    # no call has met the edit
    close(torch.compile(fast, backend="eager")(x), plain(x))
    fast(x)
    again = copy.deepcopy(fast)
    torch._dynamo.reset()
    close(torch.compile(again, backend="eager")(x), plain(x))


def doubled(cls: type[nn.Module]):
    return lambda self, x: 2 * cls.forward(self, x)


def test_centres_of_each_feature() -> None:
    plain, fast = twins("fast-kan")
    grid = torch.randn(4, plain.rbf.grid.numel(), dtype=torch.float64)
    for layer in (plain, fast):
        layer.rbf.grid = nn.Parameter(grid, requires_grad=False)
    equal(plain, fast)


@pytest.mark.parametrize("kind", ["efficient-kan", "fast-kan"])
def test_a_grid_and_a_batch_that_change_before_the_backward(kind: str) -> None:
    found = []
    for edits in (False, True):
        _, fast = twins(kind)
        x = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y = fast(x).square().sum()
        if edits:
            x.data.fill_(0.3)
            (fast.rbf.grid if kind == "fast-kan" else fast.grid).data.mul_(2)
        y.backward()
        found.append([p.grad for p in fast.parameters() if p.requires_grad])
    for wanted, ours in zip(*found, strict=True):
        close(ours, wanted)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("efficient-kan", "base_weight"), ("fast-kan", "layernorm"), ("ChebyKAN", "cheby_coeffs")],
)
def test_a_property_that_stands_before_a_parameter(kind: str, name: str) -> None:
    def hiding(layer: nn.Module) -> Tensor:
        if name in layer._modules:
            return nn.Identity()
        return 2 * layer._parameters[name]

    x = torch.randn(7, 4, dtype=torch.float64)
    plain, fast = twins(kind)
    for layer in (plain, fast):
        cls = type(layer)
        layer.__class__ = type(cls.__name__, (cls,), {name: property(hiding)})
    close(fast(x), plain(x))


def test_conditions_that_probes_do_not_meet_are_refused() -> None:
    class Careful(ViewKANLinear):
        def forward(self, x: Tensor) -> Tensor:
            assert x.abs().max() < 10, "too large"
            return super().forward(x)

    class Branching(ViewKANLinear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.shape[0] < 1000 else 0 * super().forward(x)

    class Cleaning(ViewKANLinear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.nan_to_num(x))

    for cls in (Careful, Branching, Cleaning):
        layer = cls(4, 3)
        with pytest.warns(UserWarning, match="skipped"):
            kan_fast.accelerate(layer)


def pykan_twins(**options) -> list[nn.Module]:
    kan = beside.pykan()
    options = {"width": [2, 3, 1], "seed": 0, "auto_save": False, **options}
    models = [kan.KAN(**options) for _ in range(2)]
    return [models[0], kan_fast.accelerate(models[1])]


def outcome(call) -> object:
    try:
        return call()
    except Exception as error:
        return type(error)


def test_pykan_layers_that_set_grids_in_their_own_way() -> None:
    x = torch.rand(50, 2)
    grids = []
    for model in pykan_twins():
        layer = model.act_fun[0]
        layer.update_grid_from_samples = lambda x, mode="sample": None
        model.update_grid_from_samples(x)
        grids.append([f.grid.detach() for f in model.act_fun])
    for theirs, ours in zip(*grids, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_pykan_models_from_another_by_keywords() -> None:
    x = torch.rand(2000, 2) * 2 - 1  # enough for all coefficients
    found = []
    for by_keyword in (False, True):
        coarse, fine = pykan_twins(grid=3)[1], pykan_twins(grid=6)[1]
        for name in ("initialize_grid_from_another_model", "initialize_from_another_model"):
            method = getattr(fine, name)
            first, second = inspect.signature(method).parameters
            method(**{first: coarse, second: x}) if by_keyword else method(coarse, x)
        found.append(fine(x).detach())
    # pykan's own least squares, which set the first coefficients, differ by rounding
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("arities", [[2, 1], [1, 2], [2], [2, 2, 2], [3, 2]], ids=str)
def test_pykan_products_of_any_arity(arities: list[int]) -> None:
    x = torch.rand(20, 2)
    found = []
    for model in pykan_twins(width=[2, [1, 2], 1], mult_arity=[[], [2, 3], []]):
        model.mult_arity = [[], arities, []]
        found.append(outcome(lambda m=model: m(x).detach()))
    theirs, ours = found
    if isinstance(theirs, Tensor):
        torch.testing.assert_close(ours, theirs)
    else:
        assert ours == theirs


def test_pykan_parameters_of_another_shape_after_a_forward() -> None:
    """A kept graph holds what autograd noted about shapes: it ends with the next forward."""
    x = torch.rand(20, 2)

    def cut(layer: nn.Module) -> None:
        layer.scale_base.data = layer.scale_base.data[..., :1]

    def widen(layer: nn.Module) -> None:
        step = layer.grid[:, -1:] - layer.grid[:, -2:-1]
        layer.grid.data = torch.cat([layer.grid, layer.grid[:, -1:] + step], 1)
        layer.coef.data = torch.cat([layer.coef, layer.coef[..., -1:]], -1)

    for edit in (cut, widen):
        found = []
        for model in pykan_twins():
            found.append([])
            for layer in (None, *model.act_fun):
                if layer is not None:
                    edit(layer)
                model.zero_grad()
                y = model(x).sum()
                y.backward()
                found[-1] += [y.detach(), *(f.coef.grad for f in model.act_fun)]
                del y
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
