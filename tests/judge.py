"""The native contractions against the oracle, by the tolerance rule."""

from __future__ import annotations

import torch
from cases import Case
from torch import Tensor

from kan_fast import reference
from kan_fast.backends import native
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance


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


def doubts(case: Case, u: Tensor) -> dict[str, float]:
    """What the rule cannot know, on the scale of the terms, were none to cancel.

    The truth is rounded in float64 itself; and the largest error of a yardstick of few numbers may
    happen to be zero, so there one rounding of the terms in the dtype under test is allowed.
    """
    few = torch.finfo(case.x.dtype).eps
    case, u = case.to(torch.float64), u.double().abs()
    weight = reference.layer.fold(*case.parameters()).abs()
    # a function near its zero is a difference of numbers of the size of its neighbours, a base
    # activation of numbers of size one
    sizes = []
    for derivative in (0, 1):
        value = reference.features(case.x, case.knots, case.basis, derivative).abs()
        splines = value[..., :-1].amax(-1, keepdim=True).expand(value[..., :-1].shape)
        sizes.append(torch.cat([splines, value[..., -1:].clamp_min(1)], dim=-1))
    phi, slope = sizes
    sums = by_name(case, phi, slope, weight, u, reference.contract_weight(phi, u))
    eps = torch.finfo(torch.float64).eps
    return {
        n: (4 * eps + (few if t.numel() < ENOUGH_NUMBERS else 0.0)) * float(t.abs().max())
        for n, t in sums.items()
        if t.numel()
    }


def compare(case: Case) -> None:
    u = torch.randn(case.x.shape[0], case.spline_weight.shape[0], dtype=case.x.dtype)
    ours = layer_and_gradients(case, u, native.kan_linear)
    yardstick = layer_and_gradients(case, u, reference.kan_linear)
    truth, doubt = oracle(case, u), doubts(case, u)
    for name, result in ours.items():
        factor = VALUE_FACTOR if name == "y" else GRADIENT_FACTOR
        assert_within_tolerance(
            name, result, truth[name], yardstick[name], factor, doubt.get(name, 0)
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


def compare_contractions(case: Case, u: Tensor, v: Tensor, derivative: int) -> None:
    """The three contractions of one derivative, kernels against oracle."""
    out_features, in_features, num_basis = case.spline_weight.shape
    layer = (case.knots, *case.parameters(), case.basis)
    spline, base = native.weight(
        case.x, u, v, case.knots, case.spline_weight.shape, True, case.basis, derivative
    )
    need = (True, False, False, False)
    ours = {
        "out": native.out(case.x, v, *layer, derivative),
        "in": native.in_weight(case.x, u, v, *layer, derivative, 0, need)[0],
        "weight": torch.cat([spline, base.unsqueeze(-1)], dim=-1),
    }
    assert ours["weight"].shape == (out_features, in_features, num_basis + 1)
    wide = (case.to(torch.float64), u.double(), v.double())
    truth = contractions(*wide, derivative)
    yardstick = contractions(case, u, v, derivative)
    # as in `doubts`: roundings on the scale of the terms, which for the d-th derivative of an
    # activation are up to some 2^d in size and cancel
    phi = reference.features(wide[0].x, wide[0].knots, case.basis, derivative).abs()
    splines = phi[..., :-1].amax(-1, keepdim=True).expand(phi[..., :-1].shape)
    sizes = torch.cat([splines, phi[..., -1:].clamp_min(2**derivative)], dim=-1)
    weight = reference.layer.fold(*wide[0].parameters()).abs()
    terms = contractions_of(sizes, weight, wide[1].abs(), wide[2].abs())
    few, eps = torch.finfo(case.x.dtype).eps, torch.finfo(torch.float64).eps
    # an expanded x draws its rounding once, however many numbers come of it
    draws = case.x.unique().numel()
    for name, result in ours.items():
        # rows that are all the same round the same way: there float64 is known less well
        share = eps * max(4, case.x.shape[0] / 4) + (
            few if min(draws, result.numel()) < ENOUGH_NUMBERS else 0.0
        )
        doubt = share * float(terms[name].max()) if result.numel() else 0.0
        assert_within_tolerance(name, result, truth[name], yardstick[name], GRADIENT_FACTOR, doubt)
