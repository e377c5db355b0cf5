"""Names of torch that are private or that its versions treat differently; no other module has any.

`.ci/run` runs the tests of what depends on them on the oldest torch that pyproject.toml allows, on
2.11 and on the newest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd.graph import Node
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils._pytree import tree_map as tree_map  # of nested containers

#: whether a transform of torch.func is active
in_transform = torch._C._are_functorch_transforms_active
#: whether a tensor is one that a transform of torch.func has wrapped
is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
#: whether a tensor is a batch of the older vmap (`is_grads_batched`)
is_legacy_batched = torch._C._functorch.is_legacy_batchedtensor
#: whether a tensor is zeros without memory, as derivatives that vanish may be
is_zero_tensor = torch.Tensor._is_zerotensor
#: the state of torch.jit.trace, None where it is not at work
tracing_state = torch._C._get_tracing_state
#: how many modes, such as FakeTensorMode, see every operator
dispatch_modes = torch._C._len_torch_dispatch_stack
#: the tensor inside the wrapper of a transform that has ended, else the tensor itself
unwrap_if_dead = torch._C._functorch.unwrap_if_dead


def constant_when_traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets Dynamo call a function while it traces and keep the result.

    `torch.compiler.assume_constant_result` sets the same mark but imports Dynamo for it, which
    takes a second of every import of the package, and whatever Dynamo itself imports.
    """
    function._dynamo_marked_constant = True
    return function


def is_exporting() -> bool:
    """Whether torch.export traces the caller.

    Dynamo of torch 2.11 folds a call of `torch.compiler.is_exporting` to True under torch.compile,
    too, so that every layer became plain operators there; the flag behind it is right in all
    versions.
    """
    return torch.compiler._is_exporting_flag


def recorder() -> str | None:
    """What records the operators of the caller, in whose graph the result of a kernel would be a
    constant; None where nothing does."""
    if tracing_state() is not None:
        return "torch.jit.trace"
    if torch.compiler._is_exporting_flag:  # as in `is_exporting`
        return "torch.export"
    if dispatch_modes() > 0 and get_proxy_mode() is not None:
        return "make_fx"
    return None


def in_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open."""
    return forward_ad._current_level >= 0


def forward_levels() -> int:
    """How many transforms of torch.func around the caller are forward-mode."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    return sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack)


def has_tangent(tensor: torch.Tensor) -> bool:
    """Whether forward-mode differentiation around the caller is with respect to a tensor."""
    return in_forward_mode() and forward_ad.unpack_dual(tensor).tangent is not None


def ends_recomputation(error: Exception) -> bool:
    """Whether it is what torch.utils.checkpoint raises when it has recomputed all that it needs."""
    from torch.utils.checkpoint import _StopRecomputationError

    return isinstance(error, _StopRecomputationError)


def will_execute(node: Node) -> bool | None:
    """Whether this pass of the autograd engine visits a node; None where torch does not say,
    which is so for a leaf that the caller of torch.autograd.grad named."""
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:
        return None
