"""The diagram and the SciPy splines of a model's edges."""

from __future__ import annotations

import beside
import pytest
import torch
from efficient_kan_copies import VendoredKANLinear
from torch import nn

import kan_fast
from kan_fast.inspect.edges import edges_of

pytest.importorskip("matplotlib", reason="no matplotlib to plot with")


def models() -> dict[str, nn.Module]:
    return {
        "kan_fast": kan_fast.KAN([2, 3, 1]),
        "one layer": kan_fast.KANLinear(2, 3),
        "accelerated": kan_fast.accelerate(
            nn.Sequential(VendoredKANLinear(2, 3), VendoredKANLinear(3, 2)), strict=True
        ),
        "gaussian": nn.Sequential(kan_fast.GaussianKANLinear(2, 2)),
        "chebyshev": kan_fast.ChebyshevKANLinear(2, 2),
    }


@pytest.mark.parametrize("name", models().keys())
def test_every_edge_is_drawn_and_fades(name: str, tmp_path) -> None:
    model = models()[name]
    x = torch.rand(200, 2) * 2 - 1
    figure = kan_fast.plot(model, x, in_names=["$a$", "b"], title="t", path=tmp_path / "kan.svg")
    (axes,) = figure.axes
    layers = [m for m in model.modules() if edges_of(m) is not None]
    edges = sum(edges_of(m).weight[..., 0].numel() for m in layers)
    assert len(axes.patches) == edges
    assert {t.get_text() for t in axes.texts} == {"$a$", "b"} and axes.get_title() == "t"
    assert (tmp_path / "kan.svg").read_text().lstrip().startswith("<?xml")
    kan_fast.plot(model, x, path=tmp_path / "kan.png")
    assert (tmp_path / "kan.png").read_bytes()[:4] == b"\x89PNG"


def test_importance_is_the_spread_of_an_edge() -> None:
    layer = kan_fast.KANLinear(2, 3, dtype=torch.float64)
    x = torch.rand(300, 2, dtype=torch.float64)
    edges = edges_of(layer)
    values = edges.values(x)
    torch.testing.assert_close(values.sum(-1), layer(x))
    torch.testing.assert_close(edges.spread(x), values.std(0, correction=0))
    with torch.no_grad():
        layer.spline_weight[1, 0] = 0
        layer.base_weight[1, 0] = 0
    (axes,) = kan_fast.plot(layer, x).axes
    # boxes come input by input: the pruned edge has faded away
    alphas = [patch.get_edgecolor()[3] for patch in axes.patches]
    assert alphas[1] == 0 and max(alphas) > 0.99 and min(alphas[:1] + alphas[2:]) > 0


@pytest.mark.parametrize("of", ["chebyshev", "gaussian"])
def test_edges_of_full_layers_add_up_to_the_layer(of: str) -> None:
    layer = (
        kan_fast.ChebyshevKANLinear(3, 2, dtype=torch.float64)
        if of == "chebyshev"
        else kan_fast.GaussianKANLinear(3, 2, base=False, dtype=torch.float64)
    )
    x = torch.randn(20, 3, dtype=torch.float64)
    edges = edges_of(layer)
    torch.testing.assert_close(edges.values(edges.prepare(x)).sum(-1), layer(x))


def test_pykan_models(tmp_path) -> None:
    kan = beside.pykan()
    x = torch.rand(100, 2)
    for accelerated in (False, True):
        model = kan.KAN([2, 3, 1], auto_save=False)
        model = kan_fast.accelerate(model) if accelerated else model
        (axes,) = kan_fast.plot(model, x).axes
        assert len(axes.patches) == 9
    with pytest.raises(ValueError, match="by their own model.plot"):
        kan_fast.plot(kan.KAN([2, [1, 1], 1], auto_save=False), x)
    y = edges_of(model.act_fun[0]).values(x).float()
    model(x)
    torch.testing.assert_close(y, model.spline_postacts[0], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_drawn_is_refused() -> None:
    x = torch.rand(10, 2)
    with pytest.raises(ValueError, match="no KAN layer"):
        kan_fast.plot(nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match="240 edges"):
        kan_fast.plot(kan_fast.KANLinear(2, 120), x)
    with pytest.raises(ValueError, match="in_names must hold 2 names, got 1"):
        kan_fast.plot(kan_fast.KANLinear(2, 3), x, in_names=["x"])
    chain = nn.Sequential(kan_fast.KANLinear(2, 3), nn.Linear(3, 4), kan_fast.KANLinear(4, 1))
    with pytest.raises(ValueError, match="3 outputs before one with 4 inputs"):
        kan_fast.plot(chain, x)


def test_coefficients_are_scipy_splines() -> None:
    pytest.importorskip("scipy", reason="no SciPy")
    layer = kan_fast.KANLinear(3, 2, dtype=torch.float64)
    layer.update_grid(torch.randn(200, 3, dtype=torch.float64))
    splines = kan_fast.coefficients(layer)
    assert splines.shape == (2, 3)
    for o in range(2):
        total = 0
        inner = layer.grid[:, 3:-3]
        at = inner[:, :1] + (inner[:, -1:] - inner[:, :1]) * torch.linspace(0, 0.999, 50)
        for i in range(3):
            total = total + torch.from_numpy(splines[o, i](at[i].numpy()))
        base = nn.functional.silu(at.t().double()) @ layer.base_weight[o]
        torch.testing.assert_close(total, layer(at.t().double())[:, o] - base)
    with pytest.raises(TypeError, match="must be a spline layer"):
        kan_fast.coefficients(kan_fast.ChebyshevKANLinear(2, 2))
