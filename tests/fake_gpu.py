"""What the host does for a Triton launch, on a machine without a GPU.

Triton's own launch path runs as it is: arguments are specialised, options parsed, the kernel looked
up. Only the ends are replaced: the driver names an H100 that is not there, a compiled kernel is a
function that writes down its grid, and tensors are the CPU's, which nothing reads or writes. What
is counted is therefore a launch without the C functions of the driver and the launcher.

Run as a program, in a process of its own, since nothing else may have imported Triton as its
interpreter: prints the counts of every case as JSON.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode

import kan_fast
from kan_fast import envs, machine
from kan_fast.backends.triton import backend, full_basis_values
from kan_fast.backends.triton import spline as triton_launch
from kan_fast.ops import plan as plans
from kan_fast.spec import Gpu, Machine

sys.path.append(str(Path(__file__).parent.parent / "bench"))
from gpu_suite.collect import Driver  # noqa: E402

H100 = Gpu("NVIDIA H100", (9, 0), 132)
OURS = str(Path(kan_fast.__file__).parent)
Run = Callable[[], Any]
#: names and grids of the launches since the last look
launched: list[tuple[str, tuple[int, ...]]] = []


def _compile(source: Any, target: Any = None, options: Any = None, **_: Any) -> SimpleNamespace:
    """A kernel that writes down its launches."""

    def run(x: int, y: int, z: int, *_: Any) -> None:
        launched.append((source.fn.__name__, (x, y, z)))

    return SimpleNamespace(run=run, function=0, packed_metadata=(), launch_metadata=lambda *_: None)


def install() -> None:
    """Makes Triton and kan_fast see an H100 behind tensors of the CPU."""
    triton.runtime.driver.set_active(Driver([*H100.capability]))
    triton.compiler.compile = _compile
    machine.gpu = lambda device: H100
    # of the interpreter the planner allows tensors of the CPU
    facts = Machine(None, triton=triton.__version__, interpreter=True)
    machine.facts = lambda: facts
    envs.BACKEND = "triton"
    plans._plan.cache_clear()
    # the device is made current as for a tensor of the GPU
    torch.cuda._exchange_device = torch.cuda._maybe_exchange_device = lambda device: 0
    for module in (backend, triton_launch, full_basis_values):
        module.on_device = lambda x: torch.cuda.device(0)


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


#: names of audited events while it is a list; a hook cannot be taken off again
_events: list[str] | None = None


def _audit(name: str, arguments: tuple) -> None:
    if _events is not None:
        _events.append(name)


sys.addaudithook(_audit)
#: of audited events, those that are no reach outside the process
_INNOCENT = ("object.__", "sys.", "code.__new__", "builtins.id", "gc.")


def _calls(run: Run) -> tuple[collections.Counter, list[str]]:
    """Python functions called, by file, and C functions of the operating system."""
    found: collections.Counter = collections.Counter()
    system: list[str] = []

    def look(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            found[frame.f_code.co_filename, frame.f_code.co_name] += 1
        elif event == "c_call" and argument.__module__ in ("posix", "_io", "io", "nt"):
            system.append(argument.__qualname__)

    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found, system


def measured(run: Run) -> dict[str, Any]:
    """Of a run that has run before: launches, calls, operators and reaches outside the process; and
    microseconds of the processor, of the fastest of some rounds."""
    global _events
    for _ in range(3):
        run()
    launched.clear()
    _events = []
    run()
    outside, _events = [e for e in _events if not e.startswith(_INNOCENT)], None
    launches = list(launched)
    calls, system = _calls(run)
    with _Operators() as operators:
        run()
    rounds = []
    for _ in range(10):
        begin = time.process_time()
        for _ in range(100):
            run()
        rounds.append((time.process_time() - begin) / 100)
    return {
        "launches": [name for name, _ in launches],
        "grids": [grid for _, grid in launches],
        "outside": outside + system,
        "ours": sum(n for (file, _), n in calls.items() if file.startswith(OURS)),
        "calls": sum(calls.values()),
        "operators": operators.names,
        "allocations": sum("empty" in name for name in operators.names),
        "microseconds": min(rounds) * 1e6,
        "by_function": {f"{Path(file).name}:{name}": n for (file, name), n in calls.most_common()},
    }


def cases() -> dict[str, Run]:
    """Forward without gradients, and forward and backward, of a layer and of a network."""

    def step(model: torch.nn.Module, x: torch.Tensor) -> Run:
        leaves = [x.clone().requires_grad_(), *model.parameters()]
        u = torch.ones_like(model(leaves[0]))

        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            model(leaves[0]).backward(u)

        return run

    def forward(model: torch.nn.Module, x: torch.Tensor) -> Run:
        def run() -> None:
            with torch.no_grad():
                model(x)

        return run

    found: dict[str, Run] = {}
    for name, grid_size in (("layer", 5), ("gathering layer", 100)):
        layer = kan_fast.KANLinear(8, 16, grid_size=grid_size)
        found[f"{name} forward"] = forward(layer, torch.zeros(100, 8))
        found[f"{name} step"] = step(layer, torch.zeros(100, 8))
    network = kan_fast.KAN([2, 5, 1])
    found["network step"] = step(network, torch.zeros(100, 2))
    return found


if __name__ == "__main__":
    install()
    print(json.dumps({name: measured(run) for name, run in cases().items()}))
