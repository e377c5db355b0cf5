"""What torch does around a layer on a GPU: precision, transforms, checkpoints, copies, groups."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu_tools import (
    DEVICE,
    GRIDS,
    HAS_GPU,
    ROWS,
    SIZES,
    assert_equal,
    assert_near,
    layer_on,
    step,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import kan_fast
from kan_fast import envs

pytest_plugins = ["gpu_fixtures"]
pytestmark = pytest.mark.usefixtures("nothing_leaks")
HALF = [torch.bfloat16, torch.float16]
#: of the largest number: what products of eight bits may be off
COARSE = 0.03


def network(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    # in float64 to be differentiated often, so smoother
    order = 4 if dtype is torch.float64 else 3
    model = kan_fast.KAN([3, 6, 2], spline_order=order).to(DEVICE, dtype)
    return model, (torch.rand(9, 3, dtype=dtype) * 1.6 - 0.8).to(DEVICE)


# precision


@pytest.mark.parametrize("grid_size", GRIDS)
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_autocast(asked: str, dtype: torch.dtype, grid_size: int) -> None:
    """Catches results and gradients in another dtype than torch's own layers have there, and a
    backward in the precision of its call instead of its forward's."""
    layer, x = layer_on(grid_size=grid_size)
    linear = nn.Linear(*SIZES).to(DEVICE)
    plain = step(layer, x)
    with torch.autocast(DEVICE, dtype=dtype):
        y, theirs = layer(x), linear(x)
        with torch.autocast(DEVICE, enabled=False):
            exact = layer(x)
        narrow = layer(x.detach().to(dtype))
    assert y.dtype == theirs.dtype == narrow.dtype == dtype
    assert exact.dtype == torch.float32
    assert_equal([exact.detach()], plain[:1])
    found = torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])
    for gradient, leaf in zip(found, [x, *layer.parameters()], strict=True):
        assert gradient.dtype == leaf.dtype == torch.float32
    assert_near([y.detach().float(), *found], plain, COARSE)


def test_scaled_gradients(asked: str) -> None:
    """Catches gradients that a scale does not go through, and an overflow that goes unnoticed."""
    model, _ = network()
    x = torch.rand(ROWS, 3).to(DEVICE)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(x: Tensor) -> list[Tensor]:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype=torch.float16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        gradients = [p.grad.clone() for p in model.parameters()]
        scaler.step(optimizer)
        scaler.update()
        return gradients

    before = [p.detach().clone() for p in model.parameters()]
    expected = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    assert_near(train(x), list(expected), COARSE)
    after = [p.detach().clone() for p in model.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    train(x * float("inf"))
    assert scaler.get_scale() == 512.0
    assert_equal([p.detach() for p in model.parameters()], after)


# derivatives


def test_second_derivatives_by_finite_differences(asked: str) -> None:
    """Catches a double backward that is not the derivative of the backward."""
    model, x = network(torch.float64)
    x = x[:3].requires_grad_()
    # of single layers: test_device_kernels.py
    assert torch.autograd.gradcheck(model, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(model, x, fast_mode=True)


def test_transforms(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches tangents, batches and Jacobians that are lost, or launched on what has no address."""
    model, x = network(torch.float64)
    t = torch.randn_like(x)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, row[None]).square().sum()

    def everything() -> list[Tensor]:
        return [
            *torch.func.jvp(model, (x,), (t,)),
            torch.func.vmap(model)(x),
            torch.func.vmap(torch.func.jacrev(model))(x[:3]),
            torch.func.vmap(torch.func.jacfwd(model))(x[:3]),
            torch.func.hessian(lambda x: model(x).sum())(x[0]),
            # per-sample gradients
            *torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x[:3]).values(),
        ]

    found = [f.detach() for f in everything()]
    monkeypatch.setattr(envs, "BACKEND", "reference")
    assert_near(found, [f.detach() for f in everything()], 1e-9)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(asked: str, reentrant: bool) -> None:
    """Catches a forward that is not the same when it is run again for its backward."""
    model, x = network()
    x.requires_grad_()
    expected = step(model, x)
    checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    # with other gradients wanted, a network may run layer by layer
    assert_near([x.grad, *[p.grad for p in model.parameters()]], expected[1:])


# repeats


@pytest.mark.parametrize("grid_size", GRIDS)
@pytest.mark.parametrize("flag", [False, True], ids=["default", "deterministic"])
def test_repeats_are_bitwise_equal(asked: str, flag: bool, grid_size: int) -> None:
    """Catches sums in the order in which blocks happen to end, numbers that are read before they
    are written (the flag fills new memory with NaN), and operators that the flag forbids."""
    rows = 5000 if HAS_GPU else 30
    layer, x = layer_on(grid_size=grid_size, rows=rows)
    model = kan_fast.KAN([SIZES[0], 5, 1]).to(DEVICE)
    torch.use_deterministic_algorithms(flag)
    try:
        for run in (layer, model):
            first = step(run, x)
            assert all(t.isfinite().all() for t in first)
            for _ in range(20 if HAS_GPU else 1):
                assert_equal(step(run, x), first)
    finally:
        torch.use_deterministic_algorithms(False)


STRIDED = {
    "transposed": lambda t: t.t().contiguous().t(),
    "sliced": lambda t: torch.stack([t, t], -1).flatten(-2)[:, ::2],
    "offset": lambda t: torch.cat([t.flatten()[:3], t.flatten()])[3:].view(t.shape),
    "expanded": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize("how", STRIDED)
def test_strides_change_nothing(asked: str, how: str) -> None:
    """Catches strides that are taken for those of contiguous tensors, or copies of all of them."""
    layer, x = layer_on()
    x, u = (STRIDED[how](t) for t in (x.detach(), torch.randn(ROWS, SIZES[1], device=DEVICE)))
    found = []
    for given, upstream in ((x, u), (x.contiguous(), u.contiguous())):
        given = given.detach().requires_grad_()
        assert given.stride() == (x if upstream is u else x.contiguous()).stride()
        y = layer(given)
        found.append([y.detach(), *torch.autograd.grad(y, [given, *layer.parameters()], upstream)])
    assert_equal(*found)


# where tensors are


def test_nothing_and_not_a_number(asked: str) -> None:
    """Catches launches of no blocks, and a bad row that reaches the others."""
    for model in (layer_on()[0], kan_fast.KAN([SIZES[0], 5, 1]).to(DEVICE)):
        x = torch.zeros(0, SIZES[0], device=DEVICE, requires_grad=True)
        y, grad_x, *grads = step(model, x)
        assert y.shape[0] == 0 and grad_x.shape == x.shape
        assert not any(g.any() for g in grads)
        x = (torch.rand(ROWS, SIZES[0]) - 0.5).to(DEVICE)
        good = step(model, x.clone().requires_grad_())
        x[3, 1], x[5, 0] = float("nan"), float("inf")
        bad = step(model, x.requires_grad_())
        rest = [r for r in range(ROWS) if r not in (3, 5)]
        assert bad[0][[3, 5]].isnan().all()
        assert torch.equal(bad[0][rest], good[0][rest])
        assert torch.equal(bad[1][rest], good[1][rest])
        assert not all(g.isfinite().all() for g in bad[2:])


@pytest.mark.skipif(not HAS_GPU, reason="torch sees no CUDA GPU here: there is one device")
def test_tensors_of_two_devices_are_refused(asked: str) -> None:
    """Catches an address of the host's memory in a launch: an illegal access ends the process."""
    layer, x = layer_on()
    for given in (x.detach().cpu(), x.detach().cpu().pin_memory()):
        with pytest.raises((TypeError, RuntimeError), match="device"):
            layer(given)
        # and the GPU still works
        assert layer(x).isfinite().all()


def test_a_model_that_moves(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches what is kept for a tensor by its address or identity: packed weights, knots."""
    model, x = network()
    x = x.requires_grad_()

    def at(device: str) -> list[Tensor]:
        monkeypatch.setattr(envs, "BACKEND", asked if device == DEVICE else "auto")
        model.to(device)
        given = x.detach().to(device).requires_grad_()
        with torch.no_grad():
            values = model(given)
        return [values.cpu(), *[t.cpu() for t in step(model, given)]]

    for _ in range(2):
        here, there = at(DEVICE), at("cpu")
        assert_near(here, there)
        assert_equal(at(DEVICE), here)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.1)


def test_copies(asked: str) -> None:
    """Catches state that is not in the state, or that does not survive a file."""
    model, x = network()
    x.requires_grad_()
    expected = step(model, x)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = kan_fast.KAN([3, 6, 2])
    fresh.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    for other in (fresh.to(DEVICE), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(step(other, x), expected)


def test_one_process_of_a_group(asked: str, emulation: Path | None, tmp_path: Path) -> None:
    """Catches gradients that DDP's and FSDP2's hooks do not see, and parameters that are parts."""
    environment = {**os.environ, "KAN_FAST_BACKEND": asked}
    if emulation is not None:
        environment["KAN_FAST_CUDA_EMULATE"] = str(emulation)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "one_rank.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=100, env=environment,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.split()[-1] == "same", done.stderr
