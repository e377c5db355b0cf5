"""Inference of a few rows with weights packed beforehand, and when they are packed anew."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import torch
from cases import make_case

import kan_fast
from kan_fast import reference
from kan_fast.backends import native, packed
from kan_fast.testing import VALUE_FACTOR, assert_within_tolerance


@pytest.fixture(autouse=True)
def _empty() -> None:
    packed.clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("knots", ["uniform", "random"])
@pytest.mark.parametrize(
    "grid_size, spline_order", [(1, 0), (5, 1), (5, 3), (20, 3), (40, 3), (4, 7)]
)
@pytest.mark.parametrize("rows, in_features, out_features", [(1, 70, 130), (3, 65, 5), (16, 1, 64)])
def test_packed_weights_give_the_layer(
    isa, dtype, knots, grid_size, spline_order, rows, in_features, out_features
) -> None:
    case = make_case(
        rows, in_features, out_features, grid_size, spline_order, dtype=dtype, knots=knots
    )
    layer = (case.knots, *case.parameters(), case.basis)
    y = packed.out(case.x, *layer)
    wide = case.to(torch.float64)
    truth = reference.kan_linear(wide.x, wide.knots, *wide.parameters(), wide.basis)
    yardstick = reference.kan_linear(case.x, *layer)
    # where the truth is float64 itself, it is known to a few roundings of its terms
    doubt = 64 * torch.finfo(torch.float64).eps * truth.abs().max().item()
    assert_within_tolerance("y", y, truth, yardstick, VALUE_FACTOR, doubt)


def test_strided_rows_and_nan() -> None:
    layer = kan_fast.KANLinear(6, 5)
    x = torch.rand(12, 8)[::3, 1:7]
    x[2, 4] = torch.nan
    with torch.no_grad():
        y = layer(x)
        dense = layer(x.repeat(20, 1))[:4]
    assert y[2].isnan().all() and y[[0, 1, 3]].isfinite().all()
    torch.testing.assert_close(y, dense, equal_nan=True)


def packed_object(layer: kan_fast.KANLinear) -> object:
    entry = packed._entries.get(id(layer.spline_weight))
    return None if entry is None else entry.packed


@pytest.mark.parametrize("name", ["spline_weight", "spline_scaler", "base_weight", "grid"])
@pytest.mark.parametrize("edit", ["torch", "data", "new memory"])
def test_an_edit_is_noticed(name: str, edit: str) -> None:
    layer = kan_fast.KANLinear(6, 5)
    x = torch.rand(1, 6) - 0.5
    with torch.no_grad():
        layer(x)
        before = packed_object(layer)
        layer(x)
        assert packed_object(layer) is before is not None
        tensor = getattr(layer, name)
        if edit == "torch":
            tensor.mul_(1.5)
        elif edit == "data":
            tensor.data.mul_(1.5)
        else:
            tensor.data = tensor.data * 1.5
        y = layer(x)
        expected = native.out(
            x, None, layer.grid, layer.spline_weight, layer.spline_scaler, layer.base_weight,
            kan_fast.spec.BasisSpec(3), 0,
        )  # fmt: skip
    torch.testing.assert_close(y, expected)


def test_training_between_evaluations() -> None:
    layer = kan_fast.KANLinear(6, 5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.rand(2, 6) - 0.5
    for _ in range(3):
        with torch.no_grad():
            evaluated = layer(x)
        trained = layer(x)
        torch.testing.assert_close(evaluated, trained.detach())
        optimizer.zero_grad()
        trained.square().sum().backward()
        optimizer.step()


def test_packed_weights_die_with_the_layer_and_do_not_travel() -> None:
    layer = kan_fast.KANLinear(6, 5)
    with torch.no_grad():
        layer(torch.rand(1, 6))
    assert len(packed._entries) == 1
    size = len(pickle.dumps(kan_fast.KANLinear(6, 5)))
    assert abs(len(pickle.dumps(layer)) - size) < 100
    copy.deepcopy(layer)
    assert len(packed._entries) == 1
    del layer
    gc.collect()
    assert not packed._entries


def test_parameters_born_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = kan_fast.KANLinear(6, 5)
        x = torch.rand(1, 6) - 0.5
        y = layer(x)
        layer.spline_weight.mul_(2)
        assert not torch.equal(layer(x), y)
