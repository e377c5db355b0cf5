"""First, second, third and higher derivatives by the native kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import Case, make_case
from judge import native_kernels
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import kan_fast
from kan_fast import reference
from kan_fast.errors import DerivativeError
from kan_fast.ops.autograd import In, Out, Weight


def smooth_case(order: int = 5, scaler: bool = True, base: bool = True) -> Case:
    case = make_case(
        6, 2, 3, 4, order, dtype=torch.float64, knots="per-feature", scaler=scaler, base=base
    )
    case.x = torch.rand(6, 2, dtype=torch.float64) * 2.6 - 1.3
    return case


def leaves(case: Case) -> list[Tensor]:
    return [t.requires_grad_() for t in (case.x, *case.parameters()) if t is not None]


def run(case: Case, backend: str = "native"):
    def function(*tensors: Tensor) -> Tensor:
        rest = list(tensors[1:])
        weight = rest.pop(0)
        scaler = rest.pop(0) if case.spline_scaler is not None else None
        base = rest.pop(0) if case.base_weight is not None else None
        return kan_fast.kan_linear(
            tensors[0], case.knots, weight, scaler, base, spline_order=case.basis.spline_order,
            base_activation=case.basis.activation, backend=backend,
        )  # fmt: skip

    return function


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
@pytest.mark.parametrize("base", [True, False], ids=["base", "no-base"])
def test_gradcheck(scaler: bool, base: bool) -> None:
    case = smooth_case(scaler=scaler, base=base)
    assert gradcheck(run(case), leaves(case))
    assert gradgradcheck(run(case), leaves(case))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradcheck_of_low_orders(order: int) -> None:
    case = smooth_case(order)
    assert gradcheck(run(case), leaves(case))
    if order >= 2:
        assert gradgradcheck(run(case), leaves(case))


@pytest.mark.parametrize("derivative", [0, 1, 2])
def test_gradgradcheck_of_every_contraction(derivative: int) -> None:
    case = smooth_case()
    x, weight, scaler, base = leaves(case)
    u = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    end = (case.basis, native_kernels, derivative)

    def out(x, v, weight, scaler, base):
        return Out.apply(x, v, case.knots, weight, scaler, base, *end)

    def in_(x, u, weight, scaler, base):
        return In.apply(x, u, case.knots, weight, scaler, base, *end)

    def weight_(x, u, v):
        return Weight.apply(x, u, v, case.knots, weight.shape, True, *end)

    for function, inputs in [
        (out, (x, v, weight, scaler, base)),
        (in_, (x, u, weight, scaler, base)),
        (weight_, (x, u, v)),
    ]:
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


def nested_gradients(function, x: Tensor, depth: int) -> list[Tensor]:
    """sum of u, u', u'', ... by repeated reverse mode."""
    value = function(x).sum()
    found = []
    for n in range(depth):
        (slope,) = torch.autograd.grad(value, x, create_graph=n + 1 < depth)
        found.append(slope)
        value = (slope * torch.arange(1, slope.numel() + 1).view_as(slope)).sum()
    return found


@pytest.mark.parametrize("depth", [3, 5])
def test_derivatives_up_to_the_fifth(depth: int) -> None:
    case = smooth_case(order=7)
    parameters = [t for t in case.parameters() if t is not None]
    for _, (ours, theirs) in enumerate(
        zip(
            nested_gradients(lambda x: run(case)(x, *parameters), leaves(case)[0], depth),
            nested_gradients(
                lambda x: run(case, "reference")(x, *parameters), leaves(case)[0], depth
            ),
            strict=True,
        )
    ):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.detach().abs().max())
        )


def test_third_derivative_reaches_the_parameters() -> None:
    torch.manual_seed(1)
    ours = kan_fast.KAN([2, 4, 1], grid_size=6, spline_order=5).double()

    def loss(model, layer_backend: str) -> list[Tensor]:
        x = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) - 0.5
        x.requires_grad_()
        u = x
        for layer in model.layers:
            u = kan_fast.kan_linear(
                u, layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight,
                spline_order=5, backend=layer_backend,
            )  # fmt: skip
        for _ in range(3):
            (u,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            u = u[:, :1]
        return torch.autograd.grad(u.square().mean(), list(model.parameters()))

    for a, b in zip(loss(ours, "native"), loss(ours, "reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_beyond_the_fifth_raises() -> None:
    case = smooth_case(order=7)
    parameters = [t for t in case.parameters() if t is not None]
    with pytest.raises(DerivativeError, match="up to order 5, got 6"):
        nested_gradients(lambda x: run(case)(x, *parameters), leaves(case)[0], 6)


def test_only_gradients_asked_for_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = []
    original = native_kernels.in_weight
    monkeypatch.setattr(native_kernels, "in_weight", lambda *a: needs.append(a[-1]) or original(*a))
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(5, 3)
    layer(x).sum().backward()
    layer.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    layer.spline_scaler.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert needs == [
        (False, True, True, True),
        (True, False, False, False),
        (False, False, True, False),
    ]


def poisson_losses(backend: str) -> list[float]:
    """Trains u'' + u_yy = f on the square with u = sin(pi x) sin(pi y); the loss of every step."""
    torch.manual_seed(0)
    model = kan_fast.KAN([2, 5, 1], grid_size=5, spline_order=3).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inside = torch.rand(64, 2, dtype=torch.float64) * 2 - 1
    edge = torch.rand(32, 2, dtype=torch.float64) * 2 - 1
    edge[:, 0] = edge[:, 0].sign()

    def u(x: Tensor) -> Tensor:
        for layer in model.layers:
            x = kan_fast.kan_linear(
                x, layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight,
                backend=backend,
            )  # fmt: skip
        return x

    losses = []
    for _ in range(40):
        x = inside.clone().requires_grad_()
        (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
        laplacian = 0
        for i in range(2):
            (second,) = torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)
            laplacian = laplacian + second[:, i]
        source = -2 * torch.pi**2 * torch.sin(torch.pi * x).prod(-1)
        loss = (laplacian - source).square().mean() + u(edge).square().mean() * 10
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_poisson_pinn_follows_the_oracle() -> None:
    ours, theirs = poisson_losses("native"), poisson_losses("reference")
    assert ours[-1] < ours[0]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-6, atol=1e-9)


def test_checkpoint_and_deepcopy() -> None:
    model = kan_fast.KAN([3, 8, 2])
    x = torch.rand(10, 3, requires_grad=True)
    model(x).square().sum().backward()
    plain = [x.grad.clone(), *[p.grad.clone() for p in model.parameters()]]
    twin = copy.deepcopy(model)
    twin.zero_grad()
    x.grad = None
    y = torch.utils.checkpoint.checkpoint(twin, x, use_reentrant=False)
    y.square().sum().backward()
    for a, b in zip(plain, [x.grad, *[p.grad for p in twin.parameters()]], strict=True):
        assert torch.equal(a, b)


def test_inputs_changed_in_place_are_noticed() -> None:
    case = smooth_case()
    x = case.x.clone().requires_grad_()
    y = kan_fast.kan_linear(x * 1, case.knots, case.spline_weight, spline_order=5)
    assert y.requires_grad
    middle = x * 1
    y = kan_fast.kan_linear(middle, case.knots, case.spline_weight, spline_order=5)
    middle.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_reference_is_the_oracle_not_the_kernels() -> None:
    assert "_C" not in reference.__dict__
