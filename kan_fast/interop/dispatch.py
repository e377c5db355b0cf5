"""The forward that an accelerated class has: at every call it asks whether a kernel may run."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kan_fast import envs, torch_internals
from kan_fast.backends import BACKENDS
from kan_fast.interop.adapters.base import ANY, Adapter
from kan_fast.interop.adapters.guard import CHECKED, FLAG, REFUSED, Verdict, still_holds
from kan_fast.layers.hooks import has_hooks
from kan_fast.ops.plan import autocast_enabled, plan_for

#: sees every call of a layer whose class is known, before it is decided how to run it: the layer,
#: the arguments and whether the call is of its forward; set by `zero_code.py`
watcher: Callable[[Any, tuple, bool], None] | None = None

_log = logging.getLogger("kan_fast")
#: what has been logged
_said: set[str] = set()


def dispatch(cls: type[nn.Module], adapter: Adapter) -> type[nn.Module]:
    """Gives the class that defines `forward` a dispatching one, once; returns that class."""
    owner = next(c for c in cls.__mro__ if "forward" in c.__dict__)
    original = owner.__dict__["forward"]
    if hasattr(original, FLAG):
        return owner
    names = _parameters_of(original)

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return _traced(self, adapter, original, args, kwargs)
        mark = self.__dict__.get(FLAG)
        if watcher is not None and mark is not CHECKED:
            watcher(self, args, True)
            mark = self.__dict__.get(FLAG)
        if mark is None or mark is CHECKED:
            return original(self, *args, **kwargs)
        if len(args) == 1 and not kwargs:
            x = args[0]
        else:
            x = _bind(names, adapter.arguments, args, kwargs)
        own = functools.partial(original, self, *args, **kwargs)
        return _guarded(self, adapter, mark, x, own)

    setattr(forward, FLAG, original)
    owner.forward = forward
    for name, run in adapter.replacements(cls).items():
        _dispatch_method(cls, name, run, adapter)
    return owner


def judge(module: nn.Module, adapter: Adapter) -> Verdict:
    """Recognises a layer, or says why not, and lets its calls know."""
    return mark(module, adapter, refusal_of(module, adapter))


def refusal_of(module: nn.Module, adapter: Adapter) -> str | None:
    """Why a layer is not recognised; None where it is, for as long as it stays what it is."""
    before = module.__dict__.get(FLAG)
    if type(before) is Verdict and before.holds(module):
        return before.reason
    try:
        return adapter.refuses(module)
    except Exception as error:  # of a layer in pieces
        return f"it cannot be looked at: {error!r}"


def mark(module: nn.Module, adapter: Adapter, reason: str | None) -> Verdict:
    """Lets the calls of a layer know whether it is recognised."""
    before = module.__dict__.get(FLAG)
    runs = before.runs if type(before) is Verdict else None
    verdict = Verdict(adapter, module, reason, runs)
    module.__dict__[FLAG] = verdict
    return verdict


def _guarded(module: Any, adapter: Adapter, verdict: Any, x: Any, own: Callable[[], Any]) -> Any:
    """One call of a layer that is marked: through a kernel, or its own code, counted."""
    if type(verdict) is not Verdict or not verdict.holds(module):
        if envs.DISABLE or not _can_judge():
            return own()
        verdict = judge(module, adapter)
    reason = verdict.reason
    if reason is None:
        try:
            reason = ready = adapter.prepare(module)
            if type(ready) is not str:
                reason, backend = _backend_for(x, ready[0], ready[1], adapter.is_full)
                is_unusual = backend and (x.dim() != 2 or not x.numel())
                kind = (x.dim(), not x.numel()) if is_unusual else None
                is_new = kind is not None and kind not in verdict.seen
                if is_new and _counts_calls(module):
                    reason, backend = "an input of a new kind while hooks are on a part", ""
                if backend:
                    y = adapter.run(module, x, ready, own)
                    if not is_new or _makes_the_same(own, y):
                        if is_new:
                            verdict.seen.add(kind)
                        verdict.runs.by[backend] += 1
                        return y
                    reason = f"its forward treats {x.dim()}-D inputs in its own way"
        except Exception as error:  # what the layer's own code makes of it is its own business
            if torch_internals.ends_recomputation(error):
                raise
            reason = str(error).split("; ")[0].split(": ", 1)[-1]
    is_first = reason not in verdict.runs.own
    verdict.runs.own[reason] += 1
    y = own()
    if is_first:  # a call that raises says enough
        _say_once(module, adapter, reason)
    return y


def _counts_calls(module: nn.Module) -> bool:
    """Whether a part of a layer may notice a second call: hooks, such as those of a spectral norm,
    and parametrisations."""
    parts = (m for m in module.modules() if m is not module)
    return any(has_hooks(m) or "parametrizations" in m._modules for m in parts)


def _makes_the_same(own: Callable[[], Any], y: Any) -> bool:
    """Whether the plain code gives a tensor of the shape of `y`: it meets each unusual kind of
    input once, since some copies take inputs of one kind alone."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            wanted = own()
    except Exception:  # which the plain code raises again when it runs instead
        return False
    return isinstance(wanted, Tensor) and wanted.shape == y.shape


def _backend_for(x: Any, weight: Tensor, spline_order: int, is_full: bool) -> tuple[str, str]:
    """The backend whose kernels take an input, after an empty reason; or the reason and ""."""
    if type(x) not in (Tensor, nn.Parameter) or not x.is_floating_point():
        return "its call is not of one tensor of floating-point numbers", ""
    if x.dtype is not weight.dtype and not autocast_enabled(x.device.type):
        names = (str(t.dtype).removeprefix("torch.") for t in (x, weight))
        return "{} input to a {} layer".format(*names), ""
    plan = plan_for(x, weight, spline_order)
    if plan.backend != "reference":
        if is_full and BACKENDS[plan.backend].full_kernels(weight) is None:
            return f"the backend {plan.backend} has kernels of splines alone", ""
        return "", plan.backend
    return plan.refusals[0][1] if plan.refusals else "KAN_FAST_BACKEND is reference", ""


def _can_judge() -> bool:
    """Whether a layer can be run and compared now: no transform, mode or trace around."""
    return not (
        torch_internals.in_transform()
        or torch_internals.dispatch_modes()
        or torch_internals.tracing_state() is not None
    )


def _say_once(module: nn.Module, adapter: Adapter, reason: str) -> None:
    text = f"{type(module).__name__} ({adapter.kind}) runs its own code: {reason}"
    if text not in _said:
        _said.add(text)
        _log.warning("kan_fast: %s", text)


def _parameters_of(function: Any) -> tuple[str, ...]:
    """Names of the positional parameters after self."""
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[1 : code.co_argcount]


def _bind(
    names: tuple[str, ...], neutral: dict[str, Any], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """The input of a call whose other arguments are those at which kernels do the same, or None."""
    given = dict(zip(names, args, strict=False))
    if len(args) > len(names) or not given.keys().isdisjoint(kwargs):
        return None
    given |= kwargs
    x = given.pop(names[0], None) if names else None
    if all(n in neutral and neutral[n] in (ANY, value) for n, value in given.items()):
        return x
    return None


def _traced(
    module: Any, adapter: Adapter, original: Callable, args: tuple, kwargs: dict[str, Any]
) -> Any:
    """The call in a graph that torch.compile traces, which holds what the layer is at that time."""
    mark = module.__dict__.get(FLAG)
    if mark is not None and len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        if type(mark) is Verdict:
            runs = mark.reason is None and still_holds(mark.name)
        else:
            runs = mark == adapter.kind
        if runs:
            y = adapter.traced(module, args[0])
            if y is not None:
                return y
    return original(module, *args, **kwargs)


def _dispatch_method(
    cls: type[nn.Module], name: str, run: Callable | None, adapter: Adapter
) -> None:
    """The same for another method: `run(module, original, *args)` where the module or an argument
    is accelerated; then so is a model that it returns."""
    owner = next((c for c in cls.__mro__ if name in c.__dict__), None)
    if owner is None or hasattr(owner.__dict__[name], FLAG):
        return
    original = owner.__dict__[name]

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if watcher is not None:
            watcher(self, args, False)
        if not any(is_accelerated(given) for given in (self, *args, *kwargs.values())):
            return original(self, *args, **kwargs)
        own = functools.partial(original, self)
        if run is None or not _is_fit(self, adapter):
            found = own(*args, **kwargs)
        else:
            found = run(self, own, *args, **kwargs)
        if isinstance(found, nn.Module) and adapter.is_candidate(found):
            if FLAG not in found.__dict__:
                judge(found, adapter)
        return found

    setattr(method, FLAG, original)
    setattr(owner, name, method)


def _is_fit(module: Any, adapter: Adapter) -> bool:
    """Whether a layer is recognised, and nothing keeps it from kernels for now."""
    try:
        if refusal_of(module, adapter) is not None:
            return False
        return not isinstance(adapter.prepare(module), str)
    except Exception:  # of a layer in pieces
        return False


def is_accelerated(module: Any) -> bool:
    """Whether a layer runs kernels, as long as it stays what it is."""
    mark = getattr(module, "__dict__", {}).get(FLAG)
    return mark not in (None, REFUSED) and (type(mark) is not Verdict or mark.reason is None)


def own_forward(owner: type[nn.Module]) -> Callable[..., Any]:
    """The forward that a class had before `dispatch`."""
    return getattr(owner.__dict__["forward"], FLAG)
