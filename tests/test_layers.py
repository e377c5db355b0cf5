"""KANLinear and KAN: construction, state, grid updates, and living with torch."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import kan_fast
from kan_fast.errors import DtypeError, GridError, ShapeError


def test_state_is_efficient_kan_s() -> None:
    model = kan_fast.KAN([4, 6, 2], grid_size=7, spline_order=2)
    assert {n: tuple(t.shape) for n, t in model.state_dict().items()} == {
        "layers.0.grid": (4, 12),
        "layers.0.base_weight": (6, 4),
        "layers.0.spline_weight": (6, 4, 9),
        "layers.0.spline_scaler": (6, 4),
        "layers.1.grid": (6, 12),
        "layers.1.base_weight": (2, 6),
        "layers.1.spline_weight": (2, 6, 9),
        "layers.1.spline_scaler": (2, 6),
    }
    plain = kan_fast.KANLinear(3, 2, enable_standalone_scale_spline=False)
    assert list(plain.state_dict()) == ["base_weight", "spline_weight", "grid"]
    torch.testing.assert_close(plain.scaled_spline_weight, plain.spline_weight)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"in_features": -1}, ShapeError),
        ({"out_features": -1}, ShapeError),
        ({"grid_size": 0}, GridError),
        ({"spline_order": 8}, ShapeError),
        ({"spline_order": -1}, ShapeError),
        ({"grid_range": (1, 1)}, GridError),
        ({"grid_range": (1, -1)}, GridError),
        ({"grid_range": (0, float("inf"))}, GridError),
    ],
    ids=str,
)
def test_refused_constructions(arguments: dict, error: type) -> None:
    with pytest.raises(error, match="got"):
        kan_fast.KANLinear(**({"in_features": 3, "out_features": 2} | arguments))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_layers_without_inputs_or_outputs(sizes: tuple[int, int]) -> None:
    # nn.Linear takes them, and so does everything that a layer offers
    layer = kan_fast.KANLinear(*sizes)
    x = torch.rand(2, 9, sizes[0], requires_grad=True)
    y = layer(x)
    assert y.shape == (2, 9, sizes[1]) and y.eq(0).all()
    y.sum().backward()
    assert x.grad.shape == x.shape and all(p.grad.shape == p.shape for p in layer.parameters())
    layer.update_grid(x)
    layer.update_grid(x, robust=True)
    layer.refine(7)
    assert layer.regularization_loss() == 0
    for size in ("l1", "std"):
        assert layer.activation_regularization_loss(x, size=size) == 0
    with torch.no_grad():
        assert layer(x[0, :1]).shape == (1, sizes[1])
    assert kan_fast.KAN([sizes[0], sizes[1], 2])(x).shape == (2, 9, 2)


def test_a_kan_needs_two_widths() -> None:
    with pytest.raises(ShapeError, match="two widths at least"):
        kan_fast.KAN([4])


@pytest.mark.parametrize("order", range(8))
def test_every_order_starts_with_splines_through_the_noise(order: int) -> None:
    layer = kan_fast.KANLinear(2, 3, spline_order=order, scale_noise=1.0)
    assert layer.spline_weight.isfinite().all() and layer.spline_weight.abs().max() < 5
    assert layer(torch.rand(4, 2)).isfinite().all()


def test_copies_pickles_and_weights_only_loading() -> None:
    model = kan_fast.KAN([3, 5, 2])
    x = torch.rand(6, 3)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = kan_fast.KAN([3, 5, 2])
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        assert torch.equal(twin(x), model(x))


def test_hooks_fire_in_both_directions() -> None:
    layer = kan_fast.KANLinear(3, 2)
    events = []
    layer.register_forward_hook(lambda *a: events.append("forward"))
    layer.register_full_backward_hook(lambda *a: events.append("backward"))
    layer.base_weight.register_post_accumulate_grad_hook(lambda p: events.append("grad"))
    layer(torch.rand(4, 3, requires_grad=True)).sum().backward()
    assert events[0] == "forward" and set(events) == {"forward", "backward", "grad"}


def test_meta_device_and_dtype() -> None:
    layer = kan_fast.KANLinear(3, 2, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64} == {layer.grid.dtype}
    meta = kan_fast.KANLinear(3, 2, device="meta")
    assert meta.spline_weight.is_meta
    assert meta(torch.rand(4, 3, device="meta")).shape == (4, 2)


@pytest.mark.parametrize("standalone", [True, False], ids=["scaler", "no-scaler"])
def test_update_grid_preserves_the_function(standalone: bool) -> None:
    layer = kan_fast.KANLinear(
        3, 4, grid_size=20, enable_standalone_scale_spline=standalone, scale_noise=2.0
    ).double()
    # a smooth function, which the new grid can follow
    with torch.no_grad():
        at = torch.linspace(-1, 1, layer.num_basis, dtype=torch.float64)
        layer.spline_weight.copy_(torch.sin(3 * at).expand_as(layer.spline_weight))
    x = torch.rand(3000, 3, dtype=torch.float64) * 1.6 - 0.8
    before, old = layer(x), layer.grid.clone()
    layer.update_grid(x)
    assert not torch.equal(layer.grid, old)
    assert (layer.grid.diff(dim=1) > 0).all()
    inner = layer.grid[:, layer.spline_order : -layer.spline_order]
    assert (inner[:, 0] <= x.min(0).values + 0.02).all()
    assert (inner[:, -1] >= x.max(0).values - 0.02).all()
    assert (layer(x) - before).abs().max() < 2e-3 * before.abs().max()


def test_update_grid_through_a_model() -> None:
    model = kan_fast.KAN([2, 5, 1])
    grids = [layer.grid.clone() for layer in model.layers]
    model(torch.rand(100, 2), update_grid=True)
    for layer, old in zip(model.layers, grids, strict=True):
        assert not torch.equal(layer.grid, old)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.rand(7, 3), GridError, "at least grid_size . spline_order = 8 rows.*got 7"),
        (torch.rand(20, 2), ShapeError, "in_features=3"),
        (torch.ones(20, 3, dtype=torch.int64), DtypeError, "floating-point"),
        (torch.full((20, 3), float("nan")), GridError, "finite"),
    ],
    ids=["few rows", "width", "integers", "nan"],
)
def test_update_grid_refuses_and_leaves_the_grid(x: torch.Tensor, error: type, words: str) -> None:
    layer = kan_fast.KANLinear(3, 2)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=words):
        layer.update_grid(x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_update_grid_where_knots_would_collapse_keeps_the_old_grid() -> None:
    layer = kan_fast.KANLinear(1, 2)
    before = layer.grid.clone()
    # far from zero, float32 cannot tell the new knots apart
    with pytest.raises(GridError, match="old grid is unchanged"):
        layer.update_grid(torch.full((50, 1), 1e6), margin=1e-9)
    assert torch.equal(layer.grid, before)


def test_update_grid_with_constant_and_one_hot_columns_stays_finite() -> None:
    layer = kan_fast.KANLinear(3, 2)
    x = torch.rand(64, 3)
    x[:, 0] = 0.3
    x[:, 1] = (torch.arange(64) == 5).float()
    layer.update_grid(x)
    assert layer.spline_weight.isfinite().all() and layer(x).isfinite().all()


def test_update_grid_in_half_precision() -> None:
    layer = kan_fast.KANLinear(3, 2).bfloat16()
    layer.update_grid(torch.rand(64, 3, dtype=torch.bfloat16))
    assert layer.grid.dtype == torch.bfloat16 and layer.spline_weight.isfinite().all()


def test_reset_grid() -> None:
    layer = kan_fast.KANLinear(3, 2)
    before = layer.grid.clone()
    layer.update_grid(torch.rand(64, 3))
    layer.reset_grid()
    assert torch.equal(layer.grid, before)


def test_regularization_loss() -> None:
    model = kan_fast.KAN([3, 4, 2])
    expected = 0.0
    for layer in model.layers:
        size = layer.spline_weight.abs().mean(-1)
        p = size / size.sum()
        expected = expected + 2 * size.sum() - 3 * (p * p.log()).sum()
    torch.testing.assert_close(model.regularization_loss(2.0, 3.0), expected)
    # edges that are exactly zero, as after pruning, or all of them
    with torch.no_grad():
        model.layers[0].spline_weight[0] = 0
        model.layers[1].spline_weight.zero_()
    loss = model.regularization_loss()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_layer_inside_no_grad_and_inference_mode() -> None:
    layer = kan_fast.KANLinear(3, 2)
    x = torch.rand(4, 3)
    y = layer(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), y)


def test_a_custom_activation_is_trained_with() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return torch.sin(self.scale * x)

    layer = kan_fast.KANLinear(3, 2, base_activation=Scaled)
    layer(torch.rand(4, 3)).sum().backward()
    assert layer.base_activation.scale.grad is not None
    assert layer.base_weight.grad is not None


@pytest.mark.parametrize("standalone", [True, False])
def test_a_lazy_layer_takes_its_width_from_the_first_input(standalone: bool) -> None:
    options = {"grid_size": 4, "enable_standalone_scale_spline": standalone}
    lazy = kan_fast.LazyKANLinear(3, dtype=torch.float64, **options)
    assert lazy.has_uninitialized_params()
    x = torch.rand(7, 5, dtype=torch.float64) - 0.5
    torch.manual_seed(1)
    y = lazy(x)
    torch.manual_seed(1)
    layer = kan_fast.KANLinear(5, 3, dtype=torch.float64, **options)
    assert type(lazy) is kan_fast.KANLinear and lazy.in_features == 5
    assert torch.equal(y, layer(x))
    y.sum().backward()
    assert all(p.grad is not None for p in lazy.parameters())


def test_a_lazy_layer_loads_a_checkpoint_before_its_first_input() -> None:
    layer = kan_fast.KANLinear(5, 3)
    lazy = kan_fast.LazyKANLinear(3)
    lazy.load_state_dict(copy.deepcopy(layer).state_dict())
    x = torch.rand(7, 5) - 0.5
    assert torch.equal(lazy(x), layer(x)) and type(lazy) is kan_fast.KANLinear
