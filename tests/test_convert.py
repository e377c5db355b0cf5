"""Conversion between kan_fast, efficient-kan and pykan: the same function, and the way back."""

from __future__ import annotations

import beside
import pytest
import torch
from efficient_kan_copies import VendoredKANLinear
from torch import nn

import kan_fast
from kan_fast import convert
from kan_fast.errors import ConversionError


@pytest.fixture
def kan():
    return beside.pykan()


class Vendored(nn.Module):
    """A model as efficient-kan's users have it."""

    def __init__(self, widths: list[int], **options) -> None:
        super().__init__()
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList(VendoredKANLinear(i, o, **options) for i, o in pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("standalone", [True, False])
def test_efficient_kan_to_ours_and_back(standalone: bool) -> None:
    theirs = Vendored([3, 5, 2], enable_standalone_scale_spline=standalone)
    x = torch.rand(40, 3) * 2 - 1
    ours = convert.to_kan_fast(theirs)
    assert isinstance(ours, kan_fast.KAN) and not any(p.is_meta for p in ours.parameters())
    close(ours(x), theirs(x))
    back = convert.to_efficient_kan(ours, VendoredKANLinear)
    for a, b in zip(theirs.parameters(), back.parameters(), strict=True):
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr()
    assert torch.equal(back(x), theirs(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("standalone", [True, False])
def test_to_pykan_and_back(kan, standalone: bool, dtype: torch.dtype, tmp_path) -> None:
    theirs = Vendored([2, 4, 1], grid_size=4, enable_standalone_scale_spline=standalone).to(dtype)
    x = (torch.rand(50, 2) * 2 - 1).to(dtype)
    model = convert.to_pykan(theirs, kan.KAN, ckpt_path=str(tmp_path))
    close(model(x), theirs(x))
    assert model.act_fun[0].coef.dtype is dtype
    # its tools work on it
    model.attribute()
    assert model.feature_score.shape == (2,)
    back = convert.to_kan_fast(model)
    assert isinstance(back, kan_fast.KAN)
    close(back(x), theirs(x))
    assert torch.equal(back.layers[0].spline_weight, theirs.layers[0].spline_weight)
    one = convert.to_efficient_kan(model.act_fun[0], VendoredKANLinear)
    close(one(x), theirs.layers[0](x))


def test_pruned_and_trained_pykan_models(kan, tmp_path) -> None:
    model = kan.KAN([2, 3, 1], grid=5, k=3, base_fun="zero", auto_save=False)
    model.act_fun[0].mask.data[1, 2] = 0
    model.node_scale[0].data *= 1.5
    x = torch.rand(30, 2) * 2 - 1
    ours = convert.to_kan_fast(model)
    close(ours(x), model(x))
    found = convert.state_dict(model.state_dict(), "kan_fast")
    again = kan_fast.KAN([2, 3, 1])
    again.load_state_dict(found)
    with torch.no_grad():
        for layer in again.layers:
            layer.base_weight.zero_()  # the base function is not in a checkpoint
    close(again(x), model(x))


def test_checkpoints(kan) -> None:
    ours = kan_fast.KAN([2, 3, 1], grid_size=4)
    theirs = kan.KAN([2, 3, 1], grid=4, k=3, auto_save=False)
    x = torch.rand(30, 2) * 2 - 1
    theirs.load_state_dict(convert.state_dict(ours.state_dict(), "pykan"), strict=False)
    close(theirs(x), ours(x))
    back = convert.state_dict(theirs.state_dict(), "efficient-kan")
    assert back.keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        close(back[name], tensor)


def test_what_formats_cannot_express_is_refused(kan) -> None:
    def model(**options):
        return kan.KAN(**{"width": [2, 2, 1], "auto_save": False, **options})

    symbolic, biased, products = model(), model(), model(width=[2, [1, 1], 1])
    symbolic.fix_symbolic(0, 0, 0, "sin", False, verbose=False, log_history=False)
    biased.node_bias[0].data += 1
    tied = model()
    tied.act_fun[0].grid.data[:, 4] = tied.act_fun[0].grid.data[:, 3]
    fewer = model()
    fewer.input_id = torch.tensor([1, 0])
    for wrong, reason in (
        (symbolic, "symbolic edges"),
        (biased, "node biases"),
        (products, "multiplication nodes"),
        (tied, "coincide"),
        (fewer, r"inputs \[1, 0\] alone"),
    ):
        with pytest.raises(ConversionError, match=reason):
            convert.to_kan_fast(wrong)
    for wrong in (symbolic, biased, products):
        with pytest.raises(ConversionError, match="is not zero|multiplication nodes"):
            convert.state_dict(wrong.state_dict(), "kan_fast")
    tanh = kan_fast.KAN([2, 2, 1], base_activation=nn.Tanh)
    with pytest.raises(ConversionError, match="silu, identity or zero; got tanh"):
        convert.to_pykan(tanh, kan.KAN)


def test_what_is_no_kan_is_refused() -> None:
    with pytest.raises(ConversionError, match="chain of them, got Linear"):
        convert.to_kan_fast(nn.Linear(2, 2))
    with pytest.raises(ConversionError, match="neither coef nor spline_weight"):
        convert.state_dict(nn.Linear(2, 2).state_dict(), "pykan")
    with pytest.raises(ConversionError, match="to must be 'pykan'"):
        convert.state_dict({}, "keras")


def test_full_layers() -> None:
    from test_full_adapters import ChebyKANLayer, FastKANLayer

    x = torch.randn(20, 4)
    model = nn.Sequential(FastKANLayer(4, 3), ChebyKANLayer(3, 2, 4))
    ours = convert.to_kan_fast(model)
    assert [type(m) for m in ours] == [kan_fast.GaussianKANLinear, kan_fast.ChebyshevKANLinear]
    torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)
