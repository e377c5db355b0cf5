"""What pykan keeps of a forward: lists of tensors, whatever happens before they are read."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from pykan_pairs import data, kan, pair
from torch.utils.checkpoint import checkpoint
from torch.utils.data import default_collate

import kan_fast
from kan_fast.interop.adapters.pykan.activations import ATTRIBUTES

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:kan_fast. the pykan model"),
]
NAMES = (*ATTRIBUTES, "acts", "acts_premult")


def same_records(plain, fast) -> None:
    for name in NAMES:
        expected, found = getattr(plain, name), getattr(fast, name)
        assert type(found) is list and len(found) == len(expected)
        for a, b in zip(expected, found, strict=True):
            assert type(b) is torch.Tensor and a.requires_grad == b.requires_grad
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, equal_nan=True, msg=name)


def numpy_view(tensor: torch.Tensor) -> None:
    tensor.detach().numpy()[...] = 0.3


EDITS = {
    "parameters in place": lambda m, x: [p.detach().mul_(1.5) for p in m.parameters()],
    "through .data": lambda m, x: m.act_fun[1].coef.data.zero_(),
    "through numpy": lambda m, x: [numpy_view(p) for p in m.act_fun[0].parameters()],
    "a new tensor": lambda m, x: setattr(m.act_fun[0].coef, "data", m.act_fun[0].coef.data * 2),
    "a NaN": lambda m, x: m.act_fun[0].coef.data.fill_(torch.nan),
    "shared memory": lambda m, x: m.share_memory() and m.act_fun[1].scale_sp.data.mul_(3),
    "a mask": lambda m, x: m.act_fun[0].mask.data.zero_(),
    "a symbolic edge": lambda m, x: m.symbolic_fun[0].mask.data.fill_(1.0),
    "a symbolic parameter": lambda m, x: m.symbolic_fun[0].affine.data.fill_(0.2),
    "the input": lambda m, x: x.mul_(2),
    "a grid": lambda m, x: m.act_fun[0].grid.data.mul_(1.1),
    "a layer": lambda m, x: m.act_fun.__setitem__(0, kan.KANLayer(2, 5)),
    "modes": lambda m, x: m.eval(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edits_before_a_read_change_nothing(edit) -> None:
    plain, fast = pair()
    for model in (plain, fast):
        model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False, verbose=False, log_history=False)
        x = data(30)["train_input"].clone()
        model(x)
        edit(model, x)
    same_records(plain, fast)
    # in turn what is read may be written into
    for model in (plain, fast):
        model(data(20)["train_input"])
        model.edge_actscale[0].detach().zero_()
        model.acts[1].detach().zero_()
    same_records(plain, fast)


def test_a_gradient_after_an_edit_is_that_of_the_forward() -> None:
    expected, found = [], []
    for edited in (False, True):
        _, fast = pair()
        fast(data(30)["train_input"])
        if edited:
            fast.act_fun[0].coef.data.mul_(2)
            fast.act_fun[1].coef.data.fill_(torch.nan)
        loss = sum(t.sum() for t in fast.acts_scale_spline)
        coefs = [layer.coef for layer in fast.act_fun]
        (found if edited else expected).extend(torch.autograd.grad(loss, coefs))
    for a, b in zip(expected, found, strict=True):
        # the second layer's input is the first one's output, through the kernel's backward
        torch.testing.assert_close(a.isfinite(), torch.ones_like(a, dtype=torch.bool))
        assert a.shape == b.shape
    torch.testing.assert_close(expected[1], found[1])


def test_lists_are_lists() -> None:
    plain, fast = pair(width=[3, 3, 3])
    x = torch.rand(30, 3)
    for model in (plain, fast):
        assert not hasattr(model, "acts_scale")
        model(x)
        assert hasattr(model, "acts_scale")
    assert torch.stack(fast.acts_scale).shape == (2, 3, 3)
    assert default_collate(fast.spline_postacts).shape == (2, 30, 3, 3)
    assert len(fast.edge_actscale + [1]) == 3 and fast.acts_scale[::-1][0] is fast.acts_scale[1]
    for model in (plain, fast):
        model.acts_scale.append(model.acts_scale[0])
        model.acts_scale_spline[0] = model.acts_scale_spline[0] * 2
        model.edge_actscale = [t + 1 for t in model.edge_actscale]
        del model.subnode_actscale
        assert not hasattr(model, "subnode_actscale")
        with pytest.raises(AttributeError):
            del model.subnode_actscale
    plain.subnode_actscale, fast.subnode_actscale = plain.acts, fast.acts
    same_records(plain, fast)
    for model in (plain, fast):
        model.save_act = False
        model(x)
        assert all(getattr(model, name) == [] for name in ATTRIBUTES)


def test_copies_and_pickles_of_models_with_unread_records() -> None:
    plain, fast = pair()
    x = data(30)["train_input"]
    with torch.no_grad():
        for model in (plain, fast):
            model(x)
    twins = copy.copy(fast), copy.deepcopy(fast)
    numbers = pickle.loads(pickle.dumps(fast.__dict__["_kan_fast_record"])).read("acts_scale")
    torch.testing.assert_close(numbers, fast.acts_scale)
    for twin in twins:
        same_records(plain, twin)
    assert twins[0].acts_scale is fast.acts_scale
    twins[1].acts_scale[0].zero_()
    same_records(plain, fast)


def test_a_class_with_such_an_attribute_of_its_own() -> None:
    class Named(kan.KAN):
        acts_scale = None

    model = kan_fast.accelerate(Named(width=[2, 2, 1], auto_save=False), strict=True)
    model(torch.rand(9, 2))
    assert [t.shape for t in model.acts_scale] == [(2, 2), (1, 2)]


@pytest.mark.parametrize("save_act", [True, False])
def test_transforms_see_tensors(save_act: bool) -> None:
    plain, fast = pair()
    x = data(12)["train_input"]
    found = []
    for model in (plain, fast):
        model.save_act = save_act
        model.symbolic_enabled = False
        parameters = dict(model.named_parameters())

        def of(p: dict, rows: torch.Tensor, model: torch.nn.Module = model) -> torch.Tensor:
            y = torch.func.functional_call(model, p, (rows,))
            return y.sum() + sum(t.sum() for t in model.edge_actscale)

        found.append([
            torch.func.vmap(lambda r, f=of, p=parameters: f(p, r))(x.reshape(3, 4, 2)),
            torch.func.grad(of, argnums=1)(parameters, x),
            torch.func.grad(of)(parameters, x)["act_fun.0.coef"],
            torch.func.jvp(lambda r, f=of, p=parameters: f(p, r), (x,), (x,))[1],
        ])  # fmt: skip
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_hooks_and_checkpoints_see_tensors() -> None:
    plain, fast = pair()
    found = []
    for model in (plain, fast):
        x = data(12)["train_input"].clone().requires_grad_()
        seen = []
        handle = model.register_forward_hook(
            lambda m, i, o, s=seen: s.append([type(t) for t in m.acts_scale_spline])
        )
        checkpoint(model, x, use_reentrant=True).sum().backward()
        handle.remove()
        found.append((seen, x.grad, model.act_fun[0].coef.grad))
    assert found[0][0] == found[1][0]
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(a, b)


def test_reads_in_other_modes() -> None:
    plain, fast = pair()
    x = data(12)["train_input"]
    for model in (plain, fast):
        with torch.no_grad():
            model(x)
    with torch.enable_grad():
        same_records(plain, fast)
    for model in (plain, fast):
        model(x)
    with torch.no_grad():
        same_records(plain, fast)
    for model in (plain, fast):
        with torch.inference_mode():
            model(x)
    same_records(plain, fast)


def test_a_fit_goes_on_through_nan() -> None:
    losses = []
    for model in pair(width=[2, 2, 1]):
        model.act_fun[0].coef.data[0, 0, 0] = torch.nan
        torch.manual_seed(0)
        found = model.fit(data(40), opt="Adam", steps=4, lamb=1e-3, update_grid=False)
        losses.append(torch.tensor([float(n) for n in found["train_loss"]]))
    assert losses[0].isnan().all()
    torch.testing.assert_close(*losses, equal_nan=True)
