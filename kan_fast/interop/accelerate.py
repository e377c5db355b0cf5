"""`accelerate`, `restore`, `report` and `explain`: the drop-in for models that people already have.

The recognised class gets a `forward` that looks at a flag on the instance. Parameters, optimizers,
isinstance, pickle, state_dict, hooks and replicas stay what they were; an instance-bound method
would break several of them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kan_fast import envs
from kan_fast.interop.adapters import OURS, adapter_of, ours_of
from kan_fast.interop.adapters.base import Adapter
from kan_fast.interop.adapters.guard import FLAG, Verdict
from kan_fast.interop.dispatch import dispatch, mark, refusal_of
from kan_fast.interop.runs import Runs
from kan_fast.interop.unrecognised import text, unrecognised
from kan_fast.ops.plan import plan_for

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LayerReport:
    """One KAN layer of a model: its name, its library, why it is as it is, and its calls."""

    name: str
    kind: str
    reason: str
    runs: Runs = field(default_factory=Runs, compare=False)


@dataclass(frozen=True)
class Report:
    """What `accelerate` did to a model.

    Args:
        accelerated: layers that run our kernels.
        skipped: KAN layers that were left alone, each with the reason.
        unrecognised: layers named like KANs that no adapter knows; `kind` is their class.
    """

    accelerated: tuple[LayerReport, ...]
    skipped: tuple[LayerReport, ...]
    unrecognised: tuple[LayerReport, ...] = ()

    def __str__(self) -> str:
        total = len(self.accelerated) + len(self.skipped)
        lines = [f"kan_fast: {len(self.accelerated)} of {total} KAN layers accelerated"]
        lines += [f"  skipped {s.name or '(root)'} ({s.kind}): {s.reason}" for s in self.skipped]
        for layer in (*self.accelerated, *self.skipped):
            if layer.runs.own or layer.runs.part:
                calls = layer.runs.text(f"{layer.kind}'s")
                reasons = "; ".join([*layer.runs.own, *layer.runs.part])
                lines.append(f"  calls of {layer.name or '(root)'}: {calls} ({reasons})")
        if stranger := text(Counter(s.kind for s in self.unrecognised)):
            lines.append(f"  {stranger}")
        return "\n".join(lines)


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module, Adapter]]:
    """KAN layers and models of other libraries; what is inside of one belongs to it."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        adapter = None if module in inside else adapter_of(module)
        if adapter is not None:
            inside.update(module.modules())
            yield name, module, adapter


def _why_not(module: nn.Module, adapter: Adapter) -> tuple[str | None, str | None]:
    """Why a layer is not recognised, and why it would run its own code now, whatever the input."""
    refusal = refusal_of(module, adapter)
    if refusal is not None:
        return refusal, refusal
    ready = adapter.prepare(module)
    return None, ready if isinstance(ready, str) else None


def accelerate(model: M, *, strict: bool = False) -> M:
    """Makes the KAN layers of a model run our kernels, in place.

    efficient-kan layers are recognised by structure and source, or by comparing their forward with
    the oracle in float64 on inputs inside, on and outside the grid; copies that were edited so that
    they compute something else are left alone. Results differ by rounding only.

    Args:
        model: any module, or a KAN layer itself.
        strict: raise instead of leaving a KAN layer alone.

    Returns:
        The same model.

    Warns:
        UserWarning: once a call, with every KAN layer that is left alone and why.

    Raises:
        RuntimeError: with `strict`, when a layer was left alone; nothing is changed then.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"kan_fast.accelerate: model must be a torch.nn.Module, got {type(model).__name__}"
        )
    chosen, names, skipped = [], [], []
    for name, module, adapter in _candidates(model):
        refusal = reason = "KAN_FAST_DISABLE is set"
        if not envs.DISABLE:
            refusal, reason = _why_not(module, adapter)
        if reason is None:
            names.append(LayerReport(name, adapter.kind, "recognised"))
        else:
            skipped.append(LayerReport(name, adapter.kind, reason))
        if refusal is None:
            # what keeps a layer from a kernel now may pass: a grid that is trained for a while
            chosen.append((module, adapter))
    if strict and skipped:
        raise RuntimeError(f"{Report((), tuple(skipped))}; pass strict=False to leave them alone")
    if skipped and not envs.DISABLE:
        warnings.warn(str(Report(tuple(names), tuple(skipped))), UserWarning, stacklevel=2)
    for module, adapter in chosen:
        dispatch(type(module), adapter)
        mark(module, adapter, None)
    return model


def restore(model: M) -> M:
    """Undoes `accelerate`: every layer runs its own forward again. Returns the same model."""
    for module in model.modules():
        module.__dict__.pop(FLAG, None)
    return model


def report(model: nn.Module) -> Report:
    """Which KAN layers of a model are accelerated, and why the others are not; prints `N of M`."""
    accelerated, skipped = [], []
    strangers = [LayerReport(n, type(m).__name__, "not known") for n, m in unrecognised(model)]
    for name, module in model.named_modules():
        adapter = ours_of(module)
        if adapter is not None:
            accelerated.append(LayerReport(name, adapter.kind, "runs our kernels by itself"))
    for name, module, adapter in _candidates(model):
        reason = "KAN_FAST_DISABLE is set" if envs.DISABLE else _why_not(module, adapter)[1]
        verdict = module.__dict__.get(FLAG)
        runs = verdict.runs if type(verdict) is Verdict else Runs()
        if reason is None and verdict is not None:
            accelerated.append(LayerReport(name, adapter.kind, "recognised", runs))
            continue
        reason = reason or "not accelerated yet; call kan_fast.accelerate(model)"
        skipped.append(LayerReport(name, adapter.kind, reason, runs))
    result = Report(tuple(accelerated), tuple(skipped), tuple(strangers))
    print(result)
    return result


def explain(model: nn.Module, x: Tensor) -> str:
    """Prints and returns, per KAN layer, what will run for an input like `x`, and why not others.

    Args:
        model: any module, or a KAN layer itself; its forward is run once, without gradients.
        x: an input that `model(x)` takes.
    """
    lines: list[str] = []

    def note(name: str, module: Any, adapter: Adapter, given: Tensor) -> None:
        by_itself = adapter in OURS
        size = adapter.describe(module)
        ready = adapter.prepare(module)
        size += f", grid_size={module.grid_size}" if hasattr(module, "grid_size") else ""
        dtype = str(given.dtype).removeprefix("torch.")
        # a reason instead of a weight and its degree: what keeps it from a kernel for now
        size += "" if isinstance(ready, str) else f", spline_order={ready[1]}"
        size += f", {dtype} on {given.device}"
        if not by_itself:
            _, reason = _why_not(module, adapter)
            if FLAG not in module.__dict__ or reason is not None:
                reason = f": {reason}" if reason else ""
                lines.append(f"{name}: its own forward ({size}): not accelerated{reason}")
                return
        weight, order, *_ = ready
        plan = plan_for(given, weight, order)
        own = plan.backend == "reference" and not by_itself
        lines.append(f"{name}: {'its own forward' if own else plan.backend} ({size})")
        lines.extend(f"  not {other}: {reason}" for other, reason in plan.refusals)

    names = {m: n or "(root)" for n, m in model.named_modules()}
    layers = [(m, adapter) for m in names if (adapter := ours_of(m)) is not None]
    layers += [(m, adapter) for _, m, adapter in _candidates(model)]
    hooks = [
        layer.register_forward_pre_hook(lambda m, args, a=adapter: note(names[m], m, a, args[0]))
        for layer, adapter in layers
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    text = "\n".join(lines) or "no KAN layers found"
    print(text)
    return text
