"""What each library does with the calls that its users make: every cell is a call that was made.

    python bench/features.py [--only TEXT] [--json FILE]

Prints the table as Markdown. A layer has 3 inputs, 4 outputs, grid_size 5 and cubic splines. "no"
is an error or a wrong result; `--json` keeps which. `peers.py` says how libraries are found.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import importlib.util
import inspect
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine_info
import peers
import table
import timing
import torch
from torch import Tensor, nn

import kan_fast

#: makes a layer from its inputs, its outputs and, where its functions are splines, spline_order
Make = Callable[..., nn.Module]


class Wrong(Exception):
    """A call went through and its result is not what it should be."""


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def _layer(make: Make, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The same parameters each time."""
    torch.manual_seed(0)
    return make(3, 4).to(dtype)


def _inputs(rows: int = 64, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(rows, 3) * 1.8 - 0.9).to(dtype)


def _error(found: Tensor, truth: Tensor) -> float:
    """Largest error over the largest true value."""
    _expect(found.shape == truth.shape, f"shape {tuple(found.shape)}, not {tuple(truth.shape)}")
    worst = (found.double() - truth.double()).abs().max() / truth.abs().max()
    return float(worst) if torch.isfinite(worst) else float("inf")


def _close(found: Tensor, truth: Tensor, tolerance: float) -> str:
    error = _error(found, truth)
    _expect(error <= tolerance, f"off by {error:.2g} of the largest value")
    return "yes"


def leading_dimensions(make: Make) -> str:
    layer, x = _layer(make), _inputs()
    return _close(layer(x.view(4, 16, 3)), layer(x).view(4, 16, 4), 1e-5)


def zero_rows(make: Make) -> str:
    layer = _layer(make)
    y = layer(torch.empty(0, 3, requires_grad=True))
    y.sum().backward()
    _expect(y.shape == (0, 4), f"shape {tuple(y.shape)}")
    return "yes"


def orders(make: Make) -> str:
    found = []
    for order in range(8):
        with contextlib.suppress(Exception):
            y = make(3, 4, spline_order=order)(_inputs())
            if bool(torch.isfinite(y).all()):
                found.append(order)
    if not found:
        return "–"
    whole = found == list(range(found[0], found[-1] + 1)) and len(found) > 1
    return f"{found[0]} to {found[-1]}" if whole else ", ".join(map(str, found))


def float64(make: Make) -> str:
    exact = _layer(make)(_inputs())
    return _close(_layer(make, torch.float64)(_inputs(dtype=torch.float64)), exact, 1e-5)


def _half(make: Make, dtype: torch.dtype) -> str:
    """Within two roundings of what the rounded parameters mean."""
    layer, exact = _layer(make, dtype), _layer(make)
    exact.load_state_dict(layer.state_dict())
    x = _inputs(dtype=dtype)
    return _close(layer(x), exact.double()(x.double()), 2 * torch.finfo(dtype).eps)


def bfloat16(make: Make) -> str:
    return _half(make, torch.bfloat16)


def float16(make: Make) -> str:
    return _half(make, torch.float16)


def autocast(make: Make) -> str:
    layer, x = _layer(make), _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    _expect(y.dtype == torch.bfloat16, f"returns {y.dtype}")
    return _close(y, layer(x), 2 * torch.finfo(torch.bfloat16).eps)


def second_derivatives(make: Make) -> str:
    layer = _layer(make, torch.float64)
    x = _inputs(4, torch.float64).requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        check(layer, (x,), raise_exception=True)
    return "yes"


def jacobian_of_every_row(make: Make) -> str:
    layer, x = _layer(make), _inputs(5)
    found = torch.func.vmap(torch.func.jacrev(lambda row: layer(row[None])[0]))(x)
    truth = torch.autograd.functional.jacobian(lambda x: layer(x).sum(0), x)
    return _close(found, truth.transpose(0, 1), 1e-5)


def forward_mode(make: Make) -> str:
    layer, x = _layer(make), _inputs(5)
    _, found = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    truth = torch.autograd.functional.jacobian(lambda x: layer(x).sum(0), x)
    return _close(found, truth.sum(2).T, 1e-5)


def compiles(make: Make) -> str:
    torch.compiler.reset()
    layer, x = _layer(make), _inputs()
    return _close(torch.compile(layer, fullgraph=True)(x), layer(x), 1e-5)


def exports(make: Make) -> str:
    layer, x = _layer(make), _inputs()
    return _close(torch.export.export(layer, (x,)).module()(x), layer(x), 1e-5)


def _after_a_step(make: Make) -> tuple[nn.Module, Tensor]:
    layer, x = _layer(make), _inputs()
    layer(x).sum().backward()
    return layer, x


def copies(make: Make) -> str:
    layer, x = _after_a_step(make)
    return _close(copy.deepcopy(layer)(x), layer(x), 0)


def saves(make: Make) -> str:
    layer, x = _after_a_step(make)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return _close(torch.load(file, weights_only=False)(x), layer(x), 0)


def _method(layer: nn.Module, name: str) -> Callable[..., Any]:
    found = getattr(layer, name, None)
    _expect(found is not None, f"has no {name}")
    return found


def _update(make: Make, x: Tensor) -> str:
    """A grid update on these data leaves the function on them where it was, to 2 %."""
    layer = _layer(make)
    update = _method(layer, "update_grid")
    before = layer(x).detach()
    update(x, **({"robust": True} if "robust" in inspect.signature(update).parameters else {}))
    return _close(layer(x), before, 0.02)


def grid_update(make: Make) -> str:
    return _update(make, _inputs(1000))


def grid_update_of_a_constant_column(make: Make) -> str:
    x = _inputs(1000)
    x[:, 0] = 0.5
    return _update(make, x)


def finer_grid(make: Make) -> str:
    layer, x = _layer(make), _inputs(1000)
    before = layer(x).detach()
    finer = _method(layer, "refine")(10)
    return _close((layer if finer is None else finer)(x), before, 1e-3)


def formulas(make: Make) -> str:
    layer = _layer(make)
    if isinstance(layer, kan_fast.KANLinear):
        from kan import KAN

        _method(kan_fast.convert.to_pykan(layer, KAN), "auto_symbolic")
        return "as a pykan model"
    _method(layer, "auto_symbolic")
    return "yes"


def _wide(make: Make) -> tuple[nn.Module, Tensor]:
    """A layer of 32 inputs and outputs that has run, and 1000 rows."""
    torch.manual_seed(0)
    layer, x = make(32, 32), torch.rand(1000, 32, requires_grad=True)
    timing.step(layer, x)
    return layer, x


def _is_compiled(layer: nn.Module) -> bool:
    return hasattr(layer, "_orig_mod")


def operators(make: Make) -> str:
    layer, x = _wide(make)
    # what torch.compile made goes past torch's dispatcher
    return "–" if _is_compiled(layer) else f"{timing.operators(layer, x)}"


def kept(make: Make) -> str:
    return f"{timing.saved_bytes(*_wide(make)) / 4 / 1000 / 32:.0f}"


def peak(make: Make) -> str:
    layer, x = _wide(make)
    # of whose memory the profiler sees a part
    if _is_compiled(layer):
        return "–"
    return f"{timing.peak_bytes(lambda: timing.step(layer, x)) / 2**20:.1f} MiB"


CHECKS: dict[str, Callable[[Make], str]] = {
    "leading dimensions, as `nn.Linear`": leading_dimensions,
    "zero rows": zero_rows,
    "degree of the splines": orders,
    "float64": float64,
    "bfloat16, within two roundings": bfloat16,
    "float16, within two roundings": float16,
    "autocast, within two roundings": autocast,
    "second derivatives (`gradgradcheck`)": second_derivatives,
    "`vmap(jacrev)`": jacobian_of_every_row,
    "forward mode (`jvp`)": forward_mode,
    "`torch.compile(fullgraph=True)`": compiles,
    "`torch.export`": exports,
    "`deepcopy` after a step": copies,
    "`torch.save` of the module": saves,
    "grid update keeps the function": grid_update,
    "the same where an input is constant": grid_update_of_a_constant_column,
    "finer grid for the same function": finer_grid,
    "pruning, formulas": formulas,
    "operators of a training step": operators,
    "floats kept for the backward, a row and input": kept,
    "peak of a step, 1000 rows of 32-32": peak,
}


def libraries() -> dict[str, Make]:
    """Those that are found, in the order of the table."""
    found: dict[str, Make] = {"kan_fast": kan_fast.KANLinear}
    if importlib.util.find_spec("kan"):
        found["pykan"] = lambda i, o, spline_order=3: peers.pykan_model((i, o), 5, spline_order)
    if layer := peers.efficient_kan_layer():
        found["efficient-kan"] = layer
    if peer := peers.full_peer("gaussian"):
        found["fast-kan"] = peer[1]
    if importlib.util.find_spec("inkan"):
        from inkan import KANLayer

        found["inkan"] = KANLayer
    if "efficient-kan" in found:
        found["torch.compile of efficient-kan"] = functools.partial(
            _compiled, found["efficient-kan"]
        )
    return found


def _compiled(make: Make, *sizes: int, **options: int) -> nn.Module:
    torch.compiler.reset()
    return torch.compile(make(*sizes, **options))


def check(make: Make, only: str = "") -> dict[str, dict[str, str]]:
    """Cell by question, and why where it is "no"."""
    found = {}
    for question, ask in CHECKS.items():
        if only in question:
            # what other questions made torch.compile do is not this one's
            torch.compiler.reset()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[question] = {"cell": ask(make)}
            except Exception as error:  # whatever the library raises is the answer
                why = f"{type(error).__name__}: {error}"
                found[question] = {"cell": "no", "why": why.split("\n")[0]}
    return found


def markdown(cells: dict[str, dict[str, dict[str, str]]]) -> str:
    """The table: a row for each question, a column for each library."""
    questions = next(iter(cells.values()))
    rows = [[q, *(column[q]["cell"] for column in cells.values())] for q in questions]
    return table.lines(["", *cells], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="questions that contain this text")
    parser.add_argument("--json", type=Path, help="write cells and reasons here")
    args = parser.parse_args()
    cells = {name: check(make, args.only) for name, make in libraries().items()}
    print(markdown(cells))
    if args.json:
        result = {"machine": machine_info.collect(), "libraries": cells}
        args.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
