"""A Gaussian layer with normalisation and base branch in one call, against its parts in torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kan_fast
from kan_fast import reference
from kan_fast.ops.full_basis import gaussian_rbf_layer
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance

#: rows, inputs, outputs: ones, above a tile of rows, above a strip of inputs, rows for two threads
SIZES = [(1, 2, 1), (7, 3, 5), (65, 2, 13), (130, 70, 6), (1100, 1, 2), (600, 9, 1)]
WIDTH = 0.8
#: normalisation with weight and bias, with one, with none and no normalisation; base branches
#: likewise
PARTS = list(itertools.product(("affine", "no bias", "plain", None), ("bias", "no bias", None)))


def modules(inputs: int, outputs: int, norm: str | None, base: str | None, dtype: torch.dtype):
    """Random, rounded to `dtype`, in float64."""
    factory = {"dtype": torch.float64}
    layer_norm = linear = None
    if norm is not None:
        layer_norm = nn.LayerNorm(
            inputs, eps=1e-3, elementwise_affine=norm != "plain", bias=norm == "affine", **factory
        )
    if base is not None:
        linear = nn.Linear(inputs, outputs, base == "bias", **factory)
    for module in (layer_norm, linear):
        for p in () if module is None else module.parameters():
            p.data = torch.randn_like(p).to(dtype).double()
    return layer_norm, linear


def plain(
    x: Tensor, centers: Tensor, weight: Tensor, norm: nn.Module | None, base: nn.Module | None
) -> Tensor:
    at = x if norm is None else norm(x)
    phi = reference.gaussian_rbf_basis(at, centers, WIDTH)
    y = torch.einsum("rig,oig->ro", phi, weight)
    return y if base is None else y + base(F.silu(x))


def ours(x: Tensor, centers: Tensor, weight: Tensor, norm, base) -> Tensor:
    return gaussian_rbf_layer(x, centers, weight, WIDTH, norm, base, "silu")


def value_and_gradients(
    f: Callable, x: Tensor, centers: Tensor, weight: Tensor, u: Tensor, norm, base
) -> dict[str, Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    names, wanted = ["x", "weight"], [x, weight]
    for label, module in (("norm", norm), ("base", base)):
        for name, p in () if module is None else module.named_parameters():
            names.append(f"{label}.{name}")
            wanted.append(p)
    y = f(x, centers, weight, norm, base)
    return {"y": y.detach(), **dict(zip(names, torch.autograd.grad(y, wanted, u), strict=True))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradients(isa, size, dtype) -> None:
    rows, inputs, outputs = size
    for norm_kind, base_kind in PARTS:
        # neither centred nor of deviation one, as inputs of a normalisation are
        x = (3 + 2 * torch.randn(rows, inputs, dtype=torch.float64)).to(dtype)
        centers = torch.linspace(-2, 2, 5, dtype=dtype)
        weight = torch.randn(outputs, inputs, 5, dtype=torch.float64).to(dtype)
        u = torch.randn(rows, outputs, dtype=torch.float64).to(dtype)
        norm, base = modules(inputs, outputs, norm_kind, base_kind, dtype)
        wide = [t.double() for t in (x, centers, weight, u)]
        truth = value_and_gradients(plain, *wide, norm, base)
        for module in (norm, base):
            if module is not None:
                module.to(dtype)
        yardstick = value_and_gradients(plain, x, centers, weight, u, norm, base)
        found = value_and_gradients(ours, x, centers, weight, u, norm, base)
        for name, result in found.items():
            # few numbers are no measure of a method, and one input has a gradient of zero
            scale = float(truth[name].abs().max()) + float(u.abs().max())
            # the truth's own: rows of two close inputs are divided by a deviation near zero, twice
            doubt = 4e-13 * scale + 60 * torch.finfo(dtype).eps * scale * max(1.0, rows**0.5 / 4)
            factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
            label = f"{name}, norm {norm_kind}, base {base_kind}"
            assert_within_tolerance(label, result, truth[name], yardstick[name], factor, doubt)


def test_only_what_is_asked_for() -> None:
    """Every parameter and input alone gets the gradient that it gets among all."""
    norm, base = modules(4, 3, "affine", "bias", torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64)
    centers = torch.linspace(-2, 2, 5, dtype=torch.float64)
    weight = torch.randn(3, 4, 5, dtype=torch.float64)
    u = torch.randn(9, 3, dtype=torch.float64)
    tensors = {"x": x, "weight": weight}
    tensors |= {f"norm.{n}": p for n, p in norm.named_parameters()}
    tensors |= {f"base.{n}": p for n, p in base.named_parameters()}
    every = value_and_gradients(ours, x, centers, weight, u, norm, base)
    for name, tensor in tensors.items():
        for t in tensors.values():
            t.requires_grad_(t is tensor)
        y = ours(x, centers, weight, norm, base)
        torch.testing.assert_close(torch.autograd.grad(y, tensor, u)[0], every[name], msg=name)


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_gradcheck_of_every_order_and_batches(parts) -> None:
    norm, base = modules(3, 2, *parts, torch.float64)
    parameters = [p for m in (norm, base) if m is not None for p in m.parameters()]
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.linspace(-2, 2, 4, dtype=torch.float64)
    weight = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    f = lambda x, weight, *_: ours(x, centers, weight, norm, base)  # noqa: E731
    inputs = (x, weight, *parameters)
    assert torch.autograd.gradcheck(f, inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, inputs)
    grad = lambda y: torch.autograd.grad(y.sum(), x, create_graph=True)[0]  # noqa: E731
    third = [grad(grad(grad(g(x, centers, weight, norm, base)))) for g in (ours, plain)]
    torch.testing.assert_close(*third)


def test_strides_leading_dimensions_and_no_rows() -> None:
    norm, base = modules(4, 3, "affine", "bias", torch.float64)
    centers = torch.linspace(-2, 2, 5, dtype=torch.float64)
    weight = torch.randn(3, 4, 5, dtype=torch.float64)
    for x in (
        torch.randn(4, 6, dtype=torch.float64).t(),
        torch.randn(12, 8, dtype=torch.float64)[::2, ::2],
        torch.randn(2, 3, 4, dtype=torch.float64),
        torch.randn(4, dtype=torch.float64),
        torch.randn(0, 4, dtype=torch.float64),
    ):
        x.requires_grad_()
        y, wanted = ours(x, centers, weight, norm, base), ours(
            x.detach().clone().contiguous(), centers, weight, norm, base
        )  # fmt: skip
        assert y.shape == (*x.shape[:-1], 3)
        torch.testing.assert_close(y, wanted)
        gradients = torch.autograd.grad(y.sum(), [x, norm.weight, norm.bias, base.bias])
        rows = x.detach().reshape(-1, 4).clone().requires_grad_()
        z = plain(rows, centers, weight, norm, base).sum()
        for found, expected in zip(
            gradients,
            torch.autograd.grad(z, [rows, norm.weight, norm.bias, base.bias]),
            strict=True,
        ):
            torch.testing.assert_close(found.reshape(expected.shape), expected)


def test_what_is_watched_or_of_another_kind_is_called() -> None:
    """Hooks, subclasses and other normalisations keep what they do."""
    x = torch.randn(6, 4)
    layer = kan_fast.GaussianKANLinear(4, 3)
    wanted = layer(x)
    seen = []
    handle = layer.layernorm.register_forward_hook(lambda *_: seen.append("norm"))
    torch.testing.assert_close(layer(x), wanted)
    assert seen == ["norm"]
    handle.remove()

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    spline = layer(x) - layer.base_linear(F.silu(x))
    doubled = Doubled(4, 3)
    doubled.load_state_dict(layer.base_linear.state_dict())
    layer.base_linear = doubled
    torch.testing.assert_close(layer(x), spline + doubled(F.silu(x)))
    layer.layernorm = nn.RMSNorm(4)
    phi = reference.gaussian_rbf_basis(
        layer.layernorm(x), layer.rbf.grid, layer.rbf.denominator
    ).flatten(-2)
    torch.testing.assert_close(
        layer(x), F.linear(phi, layer.spline_linear.weight) + doubled(F.silu(x))
    )


@pytest.mark.parametrize("num_basis", [1, 4])
def test_weights_with_inputs_first(isa, num_basis: int) -> None:
    """ChebyKAN's layout gives what ours gives, and gradients in its own layout."""
    t = torch.rand(130, 70, dtype=torch.float64) * 2 - 1
    coefficients = torch.randn(70, 9, num_basis, dtype=torch.float64, requires_grad=True)
    turned = coefficients.detach().transpose(0, 1).contiguous().requires_grad_()
    u = torch.randn(130, 9, dtype=torch.float64)
    t = t.requires_grad_()
    y, wanted = (kan_fast.chebyshev_linear(t, w) for w in (coefficients.transpose(0, 1), turned))
    torch.testing.assert_close(y, wanted)
    found = torch.autograd.grad(y, (t, coefficients), u)
    expected = torch.autograd.grad(wanted, (t, turned), u)
    assert found[1].stride() == coefficients.stride()
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1].transpose(0, 1), expected[1])
