"""Whether a foreign layer computes what we think it does: its own forward in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast.interop.adapters.guard import CHECKED, FLAG

#: of the largest number; gradients of formulas such as cos(n arccos t) lose more than values
_VALUES, _GRADIENTS = 1e-10, 1e-8
#: random states of parameters and buffers beside the layer's own
_STATES = 3


def differs(
    module: nn.Module,
    inputs: Callable[[Any], Tensor],
    expected: Callable[[Any, Tensor], Tensor],
    library: str,
    constants: tuple[str, ...],
) -> str | None:
    """A sentence if a layer's forward differs from a formula, or cannot be run; None if not.

    Values and the gradients of the input and of every parameter are compared, at the layer's own
    state and at random ones of all parameters and buffers but the constants, in both modes.

    Args:
        inputs: rows to try, from a copy of the layer in float64 on the CPU.
        expected: what the library computes of the copy and those rows.
        library: its name, for the sentence.
        constants: names of tensors that have no gradient and whose values are given: grids.
    """
    try:
        # torch.autocast: a test in float64 is none in half precision
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            # those of a checkpoint around the call would count the tensors of this one
            torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
        ):
            for twin in _twins(module, constants):
                x = inputs(twin).requires_grad_()
                wanted = _found(twin, x, lambda: expected(twin, x))  # noqa: B023
                for training in (True, False):
                    twin.train(training)
                    before = [t.detach().clone() for t in (x, *_tensors(twin))]
                    found = _found(twin, x, lambda: type(twin).forward(twin, x))  # noqa: B023
                    reason = _compare(found, wanted, library)
                    if reason is not None:
                        return reason
                    for t, was in zip((x, *_tensors(twin)), before, strict=True):
                        if not torch.equal(t, was):
                            return "its forward writes into its input or its tensors"
    except Exception as error:  # anything a foreign forward raises is a refusal
        return f"its forward cannot be checked: {type(error).__name__}: {error}"
    return None


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _twins(module: nn.Module, constants: tuple[str, ...]) -> Iterator[nn.Module]:
    """Copies in float64 on the CPU, at the module's own state and at random ones."""
    generator = torch.Generator().manual_seed(0)
    for state in range(1 + _STATES):
        twin = copy.deepcopy(module).cpu().double()
        for part in twin.modules():
            part.__dict__[FLAG] = CHECKED
        for name, t in [*twin.named_parameters(), *twin.named_buffers()]:
            # what the move to float64 made of a tensor may be no leaf
            t.detach_()
            if name in constants:
                continue
            if state and t.is_floating_point():
                noise = torch.randn(t.shape, generator=generator, dtype=t.dtype)
                t.data = 0.7 * t.data + 0.5 * noise
            elif state and t.dtype is torch.bool:
                t.data = torch.rand(t.shape, generator=generator) < 0.5
            if isinstance(t, nn.Parameter):
                t.requires_grad_()
        yield twin


def _found(
    twin: nn.Module, x: Tensor, forward: Callable[[], Any]
) -> tuple[Any, dict[str, Tensor | None]]:
    """What a forward returns, and the gradients of a function of it."""
    y = forward()
    if not isinstance(y, Tensor):
        return y, {}
    leaves = {"its input": x}
    leaves |= {f"its {n}": p for n, p in twin.named_parameters() if p.requires_grad}
    # a weight for each number of the output, none like another
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=torch.float64).reshape(y.shape)
    gradients = torch.autograd.grad(
        (y * weights).sum() if y.requires_grad else x.sum(), list(leaves.values()),
        allow_unused=True,
    )  # fmt: skip
    return y.detach(), dict(zip(leaves, gradients, strict=True))


def _compare(found: tuple, wanted: tuple, library: str) -> str | None:
    (y, gradients), (truth, slopes) = found, wanted
    if not isinstance(y, Tensor) or y.shape != truth.shape:
        return "its forward returns something else than one tensor [..., out_features]"
    error = _error(y, truth)
    if not error <= _VALUES:
        return (
            f"its forward differs from {library}: largest difference {error:.1e} of the "
            "largest output, in float64"
        )
    for name, truth in slopes.items():
        slope = gradients[name]
        if (slope is None) != (truth is None):
            has, other = ("no", "one") if slope is None else ("a", "none")
            return f"its forward gives {has} gradient to {name}, where {library} has {other}"
        if truth is not None:
            error = _error(slope, truth)
            if not error <= _GRADIENTS:
                return (
                    f"its forward differs from {library} in the gradient of {name}: largest "
                    f"difference {error:.1e} of the largest, in float64"
                )
    return None


def _error(found: Tensor, wanted: Tensor) -> float:
    if wanted.numel() == 0:
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
