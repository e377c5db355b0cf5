"""What adapters ask of a call."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def only_tensor(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """The argument of a call that has no other and whose numbers are floating-point, or None."""
    if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
        return None
    return args[0] if args[0].is_floating_point() else None
