"""Random edits between the calls of an accelerated layer and its plain twin: after each, the same
values, the same gradients (none, zeros or numbers) and the same kind of exception.

KAN_FAST_EDIT_SEQUENCES sets how many sequences every library gets, KAN_FAST_EDIT_SEED the first.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import edits
import pytest
import torch
from edit_libraries import LIBRARIES
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

import kan_fast

SEQUENCES = int(os.environ.get("KAN_FAST_EDIT_SEQUENCES", "40"))
SEED = int(os.environ.get("KAN_FAST_EDIT_SEED", "0"))
LENGTH = 6
#: of the largest number of a result: rounding, which deficient fits and steep cells magnify; what
#: runs the wrong code or the wrong numbers is further off
ROUNDING = {
    torch.float64: 1e-8, torch.float32: 2e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1,
}  # fmt: skip
ROWS = 7
#: parts of edits that write numbers which autograd does not see; pykan's methods write masks so
UNSEEN = (".data", "numpy", "update_grid", "fix_symbolic", "remove_edge")


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "x * 0.3": lambda x: x * 0.3,
    "x[0]": lambda x: x[0],
    "x[:0]": lambda x: x[:0],
    "x[:1]": lambda x: x[:1],
    "x.unsqueeze(0)": lambda x: x.unsqueeze(0),
    "x.t().contiguous().t()": lambda x: x.t().contiguous().t(),
    "x.float()": lambda x: x.float(),
    "x[:, :2]": lambda x: x[:, :2],
    "with_nan(x)": lambda x: x.index_fill(0, torch.tensor([1]), float("nan")),
    "with_inf(x)": lambda x: x.index_fill(0, torch.tensor([1]), float("inf")),
}
CONTEXTS: dict[str, Callable[[], Any]] = {
    "": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "global forward hook": lambda: _hooked(
        torch_modules.register_module_forward_hook(edits.doubles_output)
    ),
    "global pre-hook": lambda: _hooked(
        torch_modules.register_module_forward_pre_hook(edits.shrinks_input)
    ),
    "global backward hook": lambda: _hooked(
        torch_modules.register_module_full_backward_hook(edits.triples_gradient)
    ),
}
#: what pykan keeps of a forward
RECORDED = ("acts", "acts_premult", "spline_preacts", "spline_postacts", "spline_postsplines",
            "acts_scale", "acts_scale_spline", "edge_actscale", "subnode_actscale")  # fmt: skip


@contextlib.contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


class Call:
    """How a layer is called after an edit; prints as a comment of the edit's line."""

    def __init__(self, draw: random.Random, between: str | None) -> None:
        usual = draw.random() < 0.6
        self.input = "x" if usual else draw.choice(list(INPUTS))
        self.context = "" if usual else draw.choice(list(CONTEXTS))
        self.leaf = draw.random() < 0.8
        self.keyword = draw.random() < 0.1
        self.all = draw.random() < 0.3
        self.between = between
        self.seed = draw.randrange(1000)

    def __str__(self) -> str:
        text = f"m({'x=' if self.keyword else ''}{self.input})" + " under " * bool(self.context)
        text += self.context + "" if self.leaf else f"{self.context}, x without gradient"
        text += ", all results" if self.all else ""
        return text + (f"; before the backward: {self.between}" if self.between else "")


class Twin:
    """A layer, what its edits need, and what its calls give."""

    def __init__(self, module: nn.Module, fast: bool) -> None:
        again = lambda: kan_fast.accelerate(self.names["m"]) if fast else None  # noqa: E731
        restore = lambda: kan_fast.restore(self.names["m"]) if fast else None  # noqa: E731
        self.names: dict[str, Any] = {
            **edits.NAMES, "m": module, "handles": [], "again": again, "restore": restore,
        }  # fmt: skip

    def edit(self, line: str) -> str:
        """The type of an exception, if there was one."""
        torch.manual_seed(0)
        try:
            exec(line, self.names)
        except Exception as error:
            return type(error).__name__
        return ""

    def call(self, call: Call, dtype: torch.dtype, edit: str | None) -> dict[str, Any]:
        m = self.names["m"]
        for p in m.parameters():
            p.grad = None
        x = INPUTS[call.input](edits.rand(call.seed, torch.empty(ROWS, 3, dtype=dtype)))
        x = x.detach().requires_grad_(call.leaf)
        torch.manual_seed(0)
        found: dict[str, Any] = {}
        # public copies make tensors of the default dtype
        with CONTEXTS[call.context](), defaults(dtype):
            try:
                y = m(x=x) if call.keyword else m(x)
            except Exception as error:
                return {"exception": type(error).__name__}
            every = list(y) if isinstance(y, (tuple, list)) else [y]
            for n, each in enumerate(every):
                found[f"y[{n}]"] = (each + 0).detach()
                found[f"y[{n}].requires_grad"] = each.requires_grad
            for name in RECORDED:
                for n, each in enumerate(getattr(m, name, None) or ()):
                    if each is not None:
                        found[f"{name}[{n}]"] = (each + 0).detach()
            used = [t for t in (every if call.all else every[:1]) if t.requires_grad]
            if edit is not None:
                # tensors made in inference mode cannot be saved, and plain code saves others
                with torch.inference_mode(False):
                    found["edit"] = self.edit(edit)
            if not used or not torch.is_grad_enabled():
                return found
            try:
                sum((t * edits.rand(5, t)).sum() + (t * t).sum() for t in used).backward()
            except Exception as error:
                return {**found, "backward raised": type(error).__name__}
        found["x.grad"] = x.grad
        for name, p in self.names["m"].named_parameters():
            found[f"{name}.grad"] = p.grad
        return found


def differences(
    theirs: dict[str, Any], ours: dict[str, Any], parameters: torch.dtype | None = None
) -> list[str]:
    """What is not the same in the results of two calls, within the rounding of their dtype and of
    the one that an edit left the parameters in."""
    found = []
    names = [*theirs, *(n for n in ours if n not in theirs)]
    for name in ["exception"] if "exception" in names else names:
        a, b = theirs.get(name, "missing"), ours.get(name, "missing")
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if a.shape != b.shape or a.dtype != b.dtype:
                found.append(f"{name}: {a.dtype} {list(a.shape)}, ours {b.dtype} {list(b.shape)}")
            elif a.numel():
                size = a.double().abs().nan_to_num(0, 0, 0).max().item()
                near = max(ROUNDING.get(a.dtype, 0.0), ROUNDING.get(parameters, 0.0))
                if name.endswith(".grad"):
                    # a kernel does not multiply a number that is not one by functions that are zero
                    b = b.where(a.isfinite(), a)
                if "actscale" in name or "acts_scale" in name:
                    # roots of differences: a spread of zero is known to the root of a rounding
                    near = max(near, near**0.5 * 1e-3)
                if not torch.allclose(
                    b.double(), a.double(), rtol=near, atol=near * (size + 1e-2), equal_nan=True
                ):
                    worst = (b.double() - a.double()).abs().max().item()
                    found.append(f"{name}: {worst:.3g} apart, largest {size:.3g}")
        elif type(a) is not type(b) or (not isinstance(a, Tensor) and a != b):
            show = lambda v: "a tensor" if isinstance(v, Tensor) else repr(v)  # noqa: E731
            found.append(f"{name}: {show(a)}, ours {show(b)}")
    return found


Step = tuple[str, Call]


class Run:
    """One sequence for one library."""

    def __init__(self, make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        plain = make().to(torch.get_default_dtype()).to(dtype)
        self.dtype = dtype
        self.plain = Twin(plain, False)
        self.fast = Twin(kan_fast.accelerate(copy.deepcopy(plain), strict=True), True)

    def step(self, step: Step) -> list[str]:
        """Edits and calls both; the differences."""
        line, call = step
        results = [twin.edit(line) for twin in (self.plain, self.fast)]
        if results[0] != results[1]:
            return [f"the edit: {results[0] or 'no exception'}, ours {results[1] or 'none'}"]
        if "update_grid" in line and not results[0]:
            self.fitted()
        found = differences(*self.both(call, None), self.input_dtype())
        if found or call.between is None:
            return found
        before = self.fast.call(call, self.input_dtype(), None)
        self.plain.call(call, self.input_dtype(), None)  # norms count calls
        theirs, ours = self.both(call, call.between)
        if "backward raised" in ours:
            return []  # loud, whether or not plain kept what was edited
        if "backward raised" in theirs:
            # autograd saw the edit there; kernels may not have needed what it changed
            before |= {"edit": ours.get("edit", "")}
            # and may have renamed parameters
            return [f for f in differences(before, ours) if "missing" not in f]
        found = differences(theirs, ours, self.input_dtype())
        if "update_grid" in call.between:
            self.fitted()
        if any(word in call.between for word in UNSEEN):
            # gradients may be those of the new numbers: docs/contract.md, "Edits"
            return [f for f in found if not f.partition(":")[0].endswith(".grad")]
        return found

    def both(self, call: Call, between: str | None) -> list[dict[str, Any]]:
        dtype = self.input_dtype()
        return [t.call(call, dtype, between) for t in (self.plain, self.fast)]

    def input_dtype(self) -> torch.dtype:
        """That of the layer, as a user would give it."""
        p = next(self.plain.names["m"].parameters(), None)
        return p.dtype if p is not None and p.is_floating_point() else self.dtype

    def fitted(self) -> None:
        """Fits of splines differ by their condition; what follows starts from the same ones."""
        with contextlib.suppress(Exception):
            self.fast.names["m"].load_state_dict(self.plain.names["m"].state_dict())


@contextlib.contextmanager
def defaults(dtype: torch.dtype) -> Iterator[None]:
    """A default dtype, without warnings of torch and of the libraries."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)


def replay(make: Callable, dtype: torch.dtype, steps: list[Step]) -> list[str]:
    """The differences after the first step that has some."""
    run = Run(make, dtype)
    for step in steps:
        found = run.step(step)
        if found:
            return found
    return []


def shrunk(make: Callable, dtype: torch.dtype, steps: list[Step]) -> list[Step]:
    """Without the steps that the failure does not need."""
    for n in reversed(range(len(steps) - 1)):
        fewer = steps[:n] + steps[n + 1 :]
        if replay(make, dtype, fewer):
            steps = fewer
    return steps


def sequence(make: Callable, drawing: edits.Drawing, seed: int) -> str | None:
    """Draws and runs one; the failure as text."""
    draw = random.Random(seed)
    dtype = torch.float32 if draw.random() < 0.2 else torch.float64
    with defaults(dtype):
        run = Run(make, dtype)
        steps: list[Step] = []
        for _ in range(LENGTH):
            m = run.plain.names["m"]
            between = drawing.line(draw, m) if draw.random() < 0.15 else None
            steps.append((drawing.line(draw, m), Call(draw, between)))
            found = run.step(steps[-1])
            if not found:
                continue
            steps = shrunk(make, dtype, steps)
            lines = [f"  {line}  # then {call}" for line, call in steps]
            found = replay(make, dtype, steps) or [*found, "only so in the whole sequence"]
            return "\n".join([f"seed {seed}, {dtype}:", *lines, *(f"  -> {f}" for f in found)])
    return None


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_twin_stays_a_twin(library: str) -> None:
    find, drawing = LIBRARIES[library]
    make = find()
    for seed in range(SEED, SEED + SEQUENCES):
        failure = sequence(make, drawing, seed)
        assert failure is None, f"{library}, KAN_FAST_EDIT_SEED={failure}"
