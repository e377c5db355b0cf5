"""The contractions of a backend against the oracle, by the tolerance rule."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import Case
from torch import Tensor

from kan_fast import reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.base import Backend
from kan_fast.backends.layer import Layer
from kan_fast.ops.spline import run
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance

native, triton, cuda = (BACKENDS[name] for name in ("native", "triton", "cuda"))
native_kernels = native.kernels(torch.empty(0))


def on(backend: Backend) -> Callable[..., Tensor]:
    """`reference.kan_linear` on a backend, which is asked nothing."""
    return lambda x, *layer: run(backend, x, Layer(*layer))


def layer_and_gradients(case: Case, u: Tensor, run) -> dict[str, Tensor]:
    """y and the gradients of x and every parameter, through autograd."""
    leaves = {"x": case.x, "spline_weight": case.spline_weight}
    leaves |= {"spline_scaler": case.spline_scaler, "base_weight": case.base_weight}
    leaves = {n: t.clone().requires_grad_() for n, t in leaves.items() if t is not None}
    y = run(
        leaves["x"], case.knots, leaves["spline_weight"], leaves.get("spline_scaler"),
        leaves.get("base_weight"), case.basis,
    )  # fmt: skip
    gradients = torch.autograd.grad(y, list(leaves.values()), u)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def oracle(case: Case, u: Tensor) -> dict[str, Tensor]:
    """The same by the formulas of docs/math.md in float64.

    Not by automatic differentiation of the recurrence, which in float64 was seen to be a hundred
    times less accurate than the kernels (checked with 40 digits).
    """
    case, u = case.to(torch.float64), u.double()
    weight = reference.layer.fold(*case.parameters())
    phi = reference.features(case.x, case.knots, case.basis)
    slope = reference.features(case.x, case.knots, case.basis, 1)
    folded = reference.contract_weight(phi, u)
    return by_name(case, phi, slope, weight, u, folded)


def by_name(
    case: Case, phi: Tensor, slope: Tensor, weight: Tensor, u: Tensor, folded: Tensor
) -> dict[str, Tensor]:
    spline, scaler = folded[..., :-1], case.spline_scaler
    return {
        "y": reference.contract_out(phi, weight),
        "x": reference.contract_in(slope, weight, u),
        "spline_weight": spline if scaler is None else spline * scaler.unsqueeze(-1),
        "spline_scaler": (spline * case.spline_weight).sum(-1),
        "base_weight": folded[..., -1],
    }


#: from so many numbers on, the largest error of the yardstick is no matter of luck
ENOUGH_NUMBERS = 100


def term_sizes(case: Case, derivative: int) -> Tensor:
    """What the functions at each x are made of, `[rows, in_features, num_basis + 1]`.

    A function near its zero is a difference of numbers of the size of its neighbours (of which
    there are none in the outermost cells), and the d-th derivative of an activation one of numbers
    up to some 2^d.
    """
    value = reference.features(case.x, case.knots, case.basis, derivative).abs()
    steps = case.knots.shape[1] - 1
    width = (case.knots[:, -1] - case.knots[:, 0]) / steps
    inside = (case.x >= case.knots[:, 0]) & (case.x < case.knots[:, -1])
    usual = torch.where(inside, 0.1 / width**derivative, 0.0)
    splines = torch.maximum(value[..., :-1].amax(-1), usual).unsqueeze(-1)
    return torch.cat(
        [splines.expand(value[..., :-1].shape), value[..., -1:].clamp_min(2**derivative)], dim=-1
    )


def doubts(case: Case, u: Tensor) -> dict[str, float]:
    """What the rule cannot know, on the scale of the terms, were none to cancel.

    The truth is rounded in float64 itself; and the largest error of a yardstick of few numbers may
    happen to be zero, so there one rounding of the terms in the dtype under test is allowed.
    """
    few = torch.finfo(case.x.dtype).eps
    case, u = case.to(torch.float64), u.double().abs()
    weight = reference.layer.fold(*case.parameters()).abs()
    phi, slope = (term_sizes(case, derivative) for derivative in (0, 1))
    sums = by_name(case, phi, slope, weight, u, reference.contract_weight(phi, u))
    return {n: allowance(case, t, few, 4) for n, t in sums.items() if t.numel()}


def allowance(case: Case, terms: Tensor, few: float, known: float) -> float:
    """Roundings of numbers as large as the largest of `terms`.

    Args:
        few: eps of the dtype under test; counts where there are few numbers, or few different x
            that they all come of.
        known: how well the truth is known, in eps of float64.
    """
    draws = min(case.x.unique().numel(), terms.numel())
    share = known * torch.finfo(torch.float64).eps + (few if draws < ENOUGH_NUMBERS else 0.0)
    return share * float(terms.abs().max())


def compare(case: Case, backend: Backend = native, eps: float | None = None) -> None:
    """A layer and its gradients on a backend, against oracle and yardstick."""
    u = torch.randn(case.x.shape[0], case.spline_weight.shape[0], dtype=case.x.dtype)
    u = u.to(case.x.device)
    ours = layer_and_gradients(case, u, on(backend))
    yardstick = layer_and_gradients(case, u, reference.kan_linear)
    truth, doubt = oracle(case, u), doubts(case, u)
    for name, result in ours.items():
        factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
        assert_within_tolerance(
            name, result, truth[name], yardstick[name], factor, doubt.get(name, 0), eps
        )


def contractions(case: Case, u: Tensor, v: Tensor, derivative: int) -> dict[str, Tensor]:
    """out, in and weight of a derivative of the basis, by the oracle."""
    phi = reference.features(case.x, case.knots, case.basis, derivative)
    return contractions_of(phi, reference.layer.fold(*case.parameters()), u, v)


def contractions_of(phi: Tensor, weight: Tensor, u: Tensor, v: Tensor) -> dict[str, Tensor]:
    return {
        "out": reference.contract_out(phi, weight, v),
        "in": reference.contract_in(phi, weight, u),
        "weight": reference.contract_weight(phi, u, v),
    }


def contraction_doubts(case: Case, u: Tensor, v: Tensor, derivative: int) -> dict[str, float]:
    """`doubts` of the three contractions of one derivative."""
    few = torch.finfo(case.x.dtype).eps
    case = case.to(torch.float64)
    weight = reference.layer.fold(*case.parameters()).abs()
    terms = contractions_of(
        term_sizes(case, derivative), weight, u.double().abs(), v.double().abs()
    )
    # every derivative is one more difference, and rows that are all the same round the same way
    known = max(4 * (1 + derivative), case.x.shape[0] / 4)
    return {n: allowance(case, t, few, known) for n, t in terms.items() if t.numel()}


def compare_contractions(
    case: Case,
    u: Tensor,
    v: Tensor,
    derivative: int,
    doubt: dict[str, float] | None = None,
    backend: Backend = native,
    eps: float | None = None,
) -> None:
    """The three contractions of one derivative, kernels against oracle."""
    kernels = backend.kernels(case.spline_weight)
    out_features, in_features, num_basis = case.spline_weight.shape
    layer = case.layer()
    spline, base = kernels.weight(
        case.x, u, v, case.knots, case.spline_weight.shape, True, case.basis, derivative
    )
    need = (True, False, False, False)
    ours = {
        "out": kernels.out(case.x, v, layer, derivative),
        "in": kernels.in_weight(case.x, u, v, layer, derivative, 0, need)[0],
        "weight": torch.cat([spline, base.unsqueeze(-1)], dim=-1),
    }
    assert ours["weight"].shape == (out_features, in_features, num_basis + 1)
    truth = contractions(case.to(torch.float64), u.double(), v.double(), derivative)
    yardstick = contractions(case, u, v, derivative)
    for name, result in ours.items():
        allowed = (doubt or {}).get(name, 0.0)
        assert_within_tolerance(
            name, result, truth[name], yardstick[name], GRADIENT_FACTOR, allowed, eps
        )
