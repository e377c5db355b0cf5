"""The layers whose twins tests/test_drop_in_edits.py edits, and what each library reads of them."""

from __future__ import annotations

from collections.abc import Callable

import beside
import edits
from torch import nn

from peers import load_classes, load_efficient_kan  # isort: skip


def _efficient_kan(n: int) -> Callable[[], nn.Module]:
    cls = load_efficient_kan(beside.or_skip(beside.real_libraries.efficient_kan)[n])
    return lambda: cls(3, 2)


def _fast_kan() -> Callable[[], nn.Module]:
    module = load_classes(beside.or_skip(beside.real_libraries.fast_kan))
    return lambda: module.FastKANLayer(3, 2, num_grids=4)


def _cheby_kan() -> Callable[[], nn.Module]:
    module = load_classes(beside.or_skip(beside.real_libraries.cheby_kan))
    return lambda: module.ChebyshevKANLayer(3, 2, 3)


def _pykan() -> Callable[[], nn.Module]:
    kan = beside.pykan()
    return lambda: kan.KAN(width=[3, 2, 2], grid=3, k=3, seed=1, auto_save=False)


def _pykan_layer() -> Callable[[], nn.Module]:
    kan = beside.pykan()
    # its default base_fun is one object for all layers, which edits would change
    return lambda: kan.KANLayer(3, 2, num=4, k=3, base_fun=nn.SiLU())


_EFFICIENT = edits.Drawing(
    ("forward", "b_splines", "scaled_spline_weight"),
    (
        "m.grid_size += 1", "m.spline_order = 2", "m.in_features = 2",
        "m.enable_standalone_scale_spline = not m.enable_standalone_scale_spline",
        "m.grid = m.grid[:1].clone()", "m.grid = nn.Parameter(m.grid)",
        "m.grid = m.grid.clone()", "m.base_weight = m.spline_scaler",
        "m.update_grid(rand({seed}, torch.ones(40, 3).to(m.grid)))",
        "m.update_grid(rand({seed}, torch.ones(40, 3).to(m.grid), 0.3), margin=0.1)",
    ),
    ("m.base_activation",),
)  # fmt: skip
LIBRARIES: dict[str, tuple[Callable, edits.Drawing]] = {
    "efficient-kan (imodelsx)": (lambda: _efficient_kan(0), _EFFICIENT),
    "efficient-kan (kan-gpt)": (lambda: _efficient_kan(1), _EFFICIENT),
    "fast-kan": (_fast_kan, edits.Drawing(
        ("forward",),
        (
            "m.rbf.denominator = 0.7", "m.use_base_update = not m.use_base_update",
            "m.rbf.grid.requires_grad_()", "m.layernorm = None", "m.layernorm.eps = 0.1",
            "m.rbf.grid = nn.Parameter(m.rbf.grid.detach() * 1.1)", "m.layernorm.weight = None",
            "m.spline_linear.bias = nn.Parameter(torch.ones(2))", "m.base_linear.bias = None",
        ),
        ("m.base_activation",),
    )),
    "ChebyKAN": (_cheby_kan, edits.Drawing(
        ("forward",),
        ("m.degree = 2", "m.degree = 4", "m.inputdim = 6", "m.outdim = 1"), (),
    )),
    "pykan": (_pykan, edits.Drawing(
        ("forward",),
        (
            "m.save_act = not m.save_act", "m.symbolic_enabled = not m.symbolic_enabled",
            "m.fix_symbolic(0, 1, 0, 'sin', fit_params_bool=False, log_history=False)",
            "m.fix_symbolic(1, 0, 1, 'x^2', fit_params_bool=False, log_history=False)",
            "m.unfix_symbolic(0, 1, 0, log_history=False)", "m.act_fun[1].k = 2",
            "m.remove_edge(0, 0, 0, log_history=False)",
            "m.update_grid_from_samples(rand({seed}, torch.ones(50, 3).to(m.act_fun[0].grid)))",
            "m.input_id = torch.tensor([2, 1, 0])", "m.act_fun[0].base_fun = torch.tanh",
            "m.node_bias[0].data += 1.0", "m.act_fun = m.act_fun[:1]",
        ),
        ("m.act_fun[0].base_fun", "m.act_fun[1].base_fun", "m.base_fun"),
    )),
    "pykan layer": (_pykan_layer, edits.Drawing(
        ("forward",),
        (
            "m.k = 2", "m.base_fun = torch.tanh", "m.in_dim = 2", "m.mask.data[0] = 0.0",
            "m.update_grid_from_samples(rand({seed}, torch.ones(50, 3).to(m.grid)))",
            "m.grid.requires_grad_()", "m.out_dim = 3",
        ),
        ("m.base_fun",),
    )),
}  # fmt: skip
