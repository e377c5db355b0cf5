"""Bad input gets a sentence, before anything is launched or changed."""

from __future__ import annotations

import pytest
import torch
from cases import make_case

import kan_fast
from kan_fast import kan_linear
from kan_fast.errors import BackendUnavailable, DtypeError, GridError, ShapeError


def arguments(**changes) -> dict:
    case = make_case(7, 3, 4)
    given = {
        "x": case.x,
        "knots": case.knots,
        "spline_weight": case.spline_weight,
        "spline_scaler": case.spline_scaler,
        "base_weight": case.base_weight,
    }
    return given | changes


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"x": torch.rand(7, 2)}, ShapeError, r"\[..., in_features=3\], got \[7, 2\]"),
        ({"x": torch.tensor(1.0)}, ShapeError, r"in_features=3\], got \[\]"),
        ({"knots": torch.rand(3, 11)}, ShapeError, r"knots must have shape \[3, 12\]"),
        ({"spline_weight": torch.rand(4, 3)}, ShapeError, "out_features, in_features, num_basis"),
        ({"spline_scaler": torch.rand(3, 4)}, ShapeError, r"\[4, 3\].*got \[3, 4\]"),
        ({"base_weight": torch.rand(4, 2)}, ShapeError, "base_weight"),
        ({"spline_order": 8}, ShapeError, "below num_basis"),
        ({"spline_order": -1}, ShapeError, "at least 0"),
        ({"x": torch.ones(7, 3, dtype=torch.int64)}, DtypeError, r"call x.float\(\)"),
        ({"x": torch.rand(7, 3).double()}, DtypeError, "same dtype, got torch.float64"),
        ({"x": torch.rand(7, 3, device="meta")}, DtypeError, "same device, got meta and cpu"),
        ({"base_activation": "swish"}, ValueError, "one of silu, identity"),
        ({"backend": "gpu"}, ValueError, "'auto' or one of native, triton, cuda, reference"),
        ({"knots": torch.rand(3, 12).sort().values.requires_grad_()}, DtypeError, "detach"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_misfits(changes: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        kan_linear(**arguments(**changes))


@pytest.mark.parametrize("what", ["unsorted", "nan", "infinite", "zero width"])
def test_bad_knots(what: str) -> None:
    knots = make_case(7, 3, 4).knots
    if what == "unsorted":
        knots[1, 4] = knots[1, 6] + 1
    elif what == "nan":
        knots[1, 4] = float("nan")
    elif what == "infinite":
        knots[1, -1] = float("inf")
    else:
        knots[1] = 0.5
    with pytest.raises(ValueError, match="knots of input 1 must be finite, non-decreasing"):
        kan_linear(**arguments(knots=knots))


def test_a_wanted_backend_that_refuses_says_why() -> None:
    case = make_case(7, 3, 4, spline_order=8)
    given = (case.x, case.knots, *case.parameters())
    with pytest.raises(BackendUnavailable, match="native was asked for but .* spline_order 7"):
        kan_linear(*given, spline_order=8, backend="native")
    assert kan_linear(*given, spline_order=8).shape == (7, 4)


def test_half_precision_evaluates_the_basis_in_float32() -> None:
    case = make_case(500, 3, 4, grid_size=100)
    given = {n: t.bfloat16() for n, t in arguments(
        x=case.x, knots=case.knots, spline_weight=case.spline_weight,
        spline_scaler=case.spline_scaler, base_weight=case.base_weight).items()}  # fmt: skip
    wide = {n: t.float() for n, t in given.items()}
    y, truth = kan_linear(**given), kan_linear(**wide)
    assert (y.float() - truth).abs().max() < 2**-6 * truth.abs().max()


def test_autocast_returns_its_dtype() -> None:
    layer = kan_fast.KANLinear(3, 4)
    linear = torch.nn.Linear(3, 4)
    x = torch.rand(5, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert y.dtype == linear(x).dtype == torch.bfloat16
        assert layer(layer.double()(x.double())[:, :3]).dtype == torch.float64
        layer.float()
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32
    assert layer(x.detach()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 1, 5, 3), (0, 3), (4, 0, 3)])
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 4)
    torch.testing.assert_close(y.reshape(-1, 4), layer(x.reshape(-1, 3)))
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert layer.spline_weight.grad.shape == layer.spline_weight.shape
    if x.numel() == 0:
        assert (layer.spline_weight.grad == 0).all()


def test_grid_error_is_a_value_error() -> None:
    assert issubclass(GridError, ValueError) and issubclass(ShapeError, ValueError)


def test_export_decomposes_into_torch_operators() -> None:
    layer = kan_fast.KANLinear(3, 4)
    x = torch.rand(5, 3)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))
