"""Runs every kind of call on tiny shapes, per backend, against float64. Seconds; the Triton kernels
where there is a GPU, all others on the CPU."""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kan_fast import machine
from kan_fast.backends import BACKENDS
from kan_fast.cli import info
from kan_fast.layers.grid import uniform_knots
from kan_fast.ops.spline import kan_linear
from kan_fast.spec import Problem

name = "doctor"
summary = "check every kind of call against float64: PASS, SKIP or FAIL with the mend"

_ROWS, _IN, _OUT, _GRID, _ORDER = 33, 3, 20, 5, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


@dataclass(frozen=True)
class Finding:
    """One check: PASS, SKIP or FAIL, and a sentence."""

    check: str
    backend: str
    verdict: str
    detail: str


class _Layer:
    """A fixed layer with its truth in float64."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).float()

        self.x = torch.rand((_ROWS, _IN), generator=generator) * 1.8 - 0.9
        self.knots = uniform_knots(_IN, _GRID, _ORDER, (-1, 1), dtype=torch.float32)
        edges = (_OUT, _IN)
        weights = (random(*edges, _GRID + _ORDER), random(*edges), random(*edges))
        self.weights = tuple(w.to(device) for w in weights)
        self.x, self.knots = self.x.to(device), self.knots.to(device)

    def run(self, backend: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
        x = self.x.to(dtype).requires_grad_()
        weights = [w.to(dtype).requires_grad_() for w in self.weights]
        y = kan_linear(x, self.knots.to(dtype), *weights, backend=backend)
        return y, x, weights

    def truth(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        return self.run("reference", torch.float64)


def _first(y: Tensor, x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(y.square().sum(), [x, *weights]))


def _second(y: Tensor, x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return list(torch.autograd.grad(slope.square().sum(), [x, *weights]))


def _close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> str:
    """Raises AssertionError when a tensor is off by more than `tolerance` of the largest number."""
    worst = 0.0
    for f, e in zip(found, expected, strict=True):
        worst = max(worst, float((f.double() - e).abs().max() / e.abs().max()))
    if not worst <= tolerance:
        raise AssertionError(f"relative error {worst:.1e} is above {tolerance:.0e}")
    return f"relative error {worst:.1e}"


def _forward(layer: _Layer, backend: str) -> str:
    return _close([layer.run(backend, torch.float32)[0]], [layer.truth()[0]], 1e-5)


def _backward(layer: _Layer, backend: str) -> str:
    return _close(_first(*layer.run(backend, torch.float32)), _first(*layer.truth()), 1e-5)


def _double_backward(layer: _Layer, backend: str) -> str:
    return _close(_second(*layer.run(backend, torch.float32)), _second(*layer.truth()), 1e-4)


def _float64(layer: _Layer, backend: str) -> str:
    return _close(_first(*layer.run(backend, torch.float64)), _first(*layer.truth()), 1e-12)


def _autocast(layer: _Layer, backend: str) -> str:
    with torch.autocast(layer.device, dtype=torch.bfloat16):
        y, x, weights = layer.run(backend, torch.float32)
    if y.dtype != torch.bfloat16:
        raise AssertionError(f"autocast to bfloat16 gave {y.dtype}")
    return _close(
        [y, *_first(y.float(), x, weights)], [layer.truth()[0], *_first(*layer.truth())], 0.02
    )


def _vmap(layer: _Layer, backend: str) -> str:
    def run(x: Tensor) -> Tensor:
        return kan_linear(x, layer.knots, *layer.weights, backend=backend)

    found = torch.func.vmap(torch.func.jacrev(run))(layer.x).sum(1)
    y, x, _ = layer.truth()
    return _close([found], list(torch.autograd.grad(y.sum(), x)), 1e-5)


def _few_rows(layer: _Layer, backend: str) -> str:
    y, x, weights = layer.run(backend, torch.float32)
    with torch.no_grad():
        found = [kan_linear(x[n : n + 1], layer.knots, *weights) for n in range(4)]
    return _close([torch.cat(found)], [layer.truth()[0][:4]], 1e-5)


def _compile(layer: _Layer, backend: str) -> str:
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise _Skip("torch.compile needs a C++ compiler here; install g++ or clang++")

    def run(x: Tensor) -> Tensor:
        return kan_linear(x, layer.knots, *layer.weights, backend=backend) + 1

    return _close([torch.compile(run, fullgraph=True)(layer.x)], [layer.truth()[0] + 1], 1e-5)


class _Skip(Exception):
    pass


CHECKS: dict[str, Callable[[_Layer, str], str]] = {
    "forward": _forward,
    "backward": _backward,
    "double backward": _double_backward,
    "float64": _float64,
    "autocast": _autocast,
    "torch.func": _vmap,
    "few rows": _few_rows,
    "compile": _compile,
}
MEND = (
    "the result is wrong: set KAN_FAST_BACKEND=reference for now, and open an issue with the block "
    "below"
)


_MENDS = {"native": "; install a C++17 compiler (g++ or clang++) and reinstall kan-fast"}


def examine() -> list[Finding]:
    """All checks on all backends, each on its device."""
    found = []
    for backend, module in BACKENDS.items():
        on_gpu = module.device == "cuda" and torch.cuda.is_available()
        layer = _Layer("cuda" if on_gpu else "cpu")
        capability = torch.cuda.get_device_capability() if on_gpu else None
        problem = Problem(layer.device, "float32", _ORDER, None, capability, asked=on_gpu)
        refusal = module.why_not(problem, machine.facts())
        for check, run in CHECKS.items():
            if refusal is not None:
                found.append(Finding(check, backend, "SKIP", refusal + _MENDS.get(backend, "")))
                continue
            try:
                found.append(Finding(check, backend, "PASS", run(layer, backend)))
            except _Skip as reason:
                found.append(Finding(check, backend, "SKIP", str(reason)))
            except AssertionError as error:
                found.append(Finding(check, backend, "FAIL", f"{error}: {MEND}"))
            except Exception as error:  # a doctor reports whatever goes wrong
                text = f"{type(error).__name__}: {error}".splitlines()[0]
                found.append(Finding(check, backend, "FAIL", f"{text}: {MEND}"))
    if not torch.cuda.is_available():
        found.append(Finding("gpu", "-", "SKIP", f"no GPU to check ({info.gpu()})"))
    return found


def run(args: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = examine()
    facts = info.collect()
    failed = any(f.verdict == "FAIL" for f in findings)
    if args.json:
        print(json.dumps({"ok": not failed, "findings": [asdict(f) for f in findings], **facts}))
        return int(failed)
    for f in findings:
        print(f"{f.verdict}  {f.backend:10s} {f.check:16s} {f.detail}")
    print("\nTo paste into an issue:\n\n```")
    print(" | ".join(f"{k}: {v}" for k, v in facts.items() if isinstance(v, str | int | bool)))
    for f in findings:
        if f.verdict != "PASS":
            print(f"{f.verdict} {f.backend} {f.check}: {f.detail}")
    print(f"{sum(f.verdict == 'PASS' for f in findings)} of {len(findings)} checks pass\n```")
    return int(failed)
