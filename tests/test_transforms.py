"""Every torch transform that works on nn.Linear, on the kernels, against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fw
from judge import native_kernels
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)
from torch.utils._pytree import tree_leaves

import kan_fast
from kan_fast import envs

MODEL: kan_fast.KAN
PARAMETERS: dict[str, torch.Tensor]
BUFFERS: dict[str, torch.Tensor]


def setup_module() -> None:
    global MODEL, PARAMETERS, BUFFERS
    torch.manual_seed(0)
    MODEL = kan_fast.KAN([3, 4, 2], dtype=torch.float64)
    PARAMETERS, BUFFERS = dict(MODEL.named_parameters()), dict(MODEL.named_buffers())


def f(p: dict, x: torch.Tensor) -> torch.Tensor:
    return functional_call(MODEL, (p, BUFFERS), (x,))


def at(x: torch.Tensor) -> torch.Tensor:
    return f(PARAMETERS, x)


def ones(tensors: dict) -> dict:
    return {k: torch.ones_like(v) for k, v in tensors.items()}


def loss(p: dict, x: torch.Tensor) -> torch.Tensor:
    return f(p, x).square().sum()


def dual_tangent(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    with fw.dual_level():
        return fw.unpack_dual(MODEL(fw.make_dual(x, t))).tangent


def dual_parameters(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    with fw.dual_level():
        p = {k: fw.make_dual(v.detach(), torch.ones_like(v)) for k, v in PARAMETERS.items()}
        return fw.unpack_dual(f(p, x)).tangent


def forward_over_reverse(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    with fw.dual_level():
        dual = fw.make_dual(x, t)
        (g,) = torch.autograd.grad(MODEL(dual).square().sum(), dual, create_graph=True)
        return fw.unpack_dual(g).tangent.detach()


def batched_gradients(x: torch.Tensor, t: torch.Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = MODEL(x)
    eye = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
    return torch.autograd.grad(y, [x, *PARAMETERS.values()], eye, is_grads_batched=True)


def energy(y: torch.Tensor) -> torch.Tensor:
    return grad(lambda x: at(x).sum())(y).square().sum()


jacobian = torch.autograd.functional.jacobian
TRANSFORMS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "vmap": lambda x, t: vmap(at)(x),
    "vmap of vmap": lambda x, t: vmap(vmap(at))(x.repeat(2, 1, 1)),
    "vmap over the last dimension": lambda x, t: vmap(at, in_dims=1)(x.t()),
    "grad": lambda x, t: grad(loss)(PARAMETERS, x),
    "vjp": lambda x, t: vjp(at, x)[1](torch.ones(x.shape[0], 2, dtype=x.dtype)),
    "per-sample gradients": lambda x, t: vmap(grad(loss), (None, 0))(PARAMETERS, x),
    "jvp of x": lambda x, t: jvp(at, (x,), (t,)),
    "jvp of parameters": lambda x, t: jvp(lambda p: f(p, x), (PARAMETERS,), (ones(PARAMETERS),)),
    "jacrev": lambda x, t: jacrev(at)(x[0]),
    "jacfwd": lambda x, t: jacfwd(at)(x[0]),
    "jacfwd of parameters": lambda x, t: jacfwd(lambda p: f(p, x[0]))(PARAMETERS),
    "jacrev of parameters": lambda x, t: jacrev(lambda p: f(p, x[0]))(PARAMETERS),
    "hessian": lambda x, t: hessian(lambda y: at(y)[0])(x[0]),
    "hessian of parameters": lambda x, t: hessian(lambda p: loss(p, x[:2]))(PARAMETERS),
    "vmap of hessian": lambda x, t: vmap(hessian(lambda y: at(y)[0]))(x),
    "jacfwd of jacfwd": lambda x, t: jacfwd(jacfwd(at))(x[0]),
    "jacrev of jacrev": lambda x, t: jacrev(jacrev(at))(x[0]),
    "jacrev of jacfwd": lambda x, t: jacrev(jacfwd(at))(x[0]),
    "jvp of jvp": lambda x, t: jvp(lambda y: jvp(at, (y,), (t,))[1], (x,), (t,)),
    "third derivative": lambda x, t: vmap(grad(lambda y: grad(energy)(y).square().sum()))(x),
    "linearize": lambda x, t: linearize(at, x)[1](t),
    "forward_ad of x": dual_tangent,
    "forward_ad of parameters": dual_parameters,
    "forward over reverse": forward_over_reverse,
    "is_grads_batched": batched_gradients,
    "functional.hessian": lambda x, t: torch.autograd.functional.hessian(
        lambda y: MODEL(y).square().sum(), x
    ),
    "functional.jacobian, vectorised": lambda x, t: jacobian(MODEL, x, vectorize=True),
    "functional.jacobian, forward": lambda x, t: jacobian(
        MODEL, x, vectorize=True, strategy="forward-mode"
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(5, 3, dtype=torch.float64) * 1.6 - 0.8
    t = torch.randn_like(x)
    calls = []
    for kernel in ("out", "in_weight", "weight"):
        original = getattr(native_kernels, kernel)

        def counted(*args: Any, original: Any = original) -> Any:
            calls.append(1)
            return original(*args)

        monkeypatch.setattr(native_kernels, kernel, counted)
    found = tree_leaves(TRANSFORMS[name](x, t))
    # torch loses tangents of tangents, and a traced graph needs operators: the oracle runs those
    assert bool(calls) == (name not in ("jacfwd of jacfwd", "jvp of jvp")) or name == "linearize"
    monkeypatch.setattr(envs, "BACKEND", "reference")
    expected = tree_leaves(TRANSFORMS[name](x, t))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert b.abs().max() > 0


def test_ensembles_have_weights_of_their_own() -> None:
    models = [kan_fast.KAN([3, 4, 2], dtype=torch.float64) for _ in range(3)]
    p, b = stack_module_state(models)
    x = torch.rand(5, 3, dtype=torch.float64)

    def one(p: dict, b: dict, x: torch.Tensor) -> torch.Tensor:
        return functional_call(models[0], (p, b), (x,))

    torch.testing.assert_close(
        vmap(one, (0, 0, None))(p, b, x), torch.stack([m(x) for m in models])
    )
    found = vmap(grad(lambda *a: one(*a).square().sum()), (0, 0, None))(p, b, x)
    for n, model in enumerate(models):
        expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        for (name, _), e in zip(model.named_parameters(), expected, strict=True):
            torch.testing.assert_close(found[name][n], e)


def test_a_traced_layer_holds_operators_not_constants() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    layer = kan_fast.KANLinear(3, 2, dtype=torch.float64)
    x, other = torch.rand(2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        graph = make_fx(layer)(x)
        torch.testing.assert_close(graph(other), layer(other))
        traced = torch.jit.trace(layer, x)
        torch.testing.assert_close(traced(other), layer(other))


def test_float32_kernels_agree_under_vmap_and_jvp() -> None:
    model = kan_fast.KAN([4, 20, 3])
    x = torch.rand(40, 4) - 0.5
    torch.testing.assert_close(vmap(model)(x), model(x))
    _, tangent = jvp(model, (x,), (torch.ones_like(x),))
    rows = vmap(jacrev(model))(x).sum(-1)
    torch.testing.assert_close(tangent, rows, rtol=1e-4, atol=1e-6)
