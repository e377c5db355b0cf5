"""Environment variables, read once at import (docs/envs.md)."""

from __future__ import annotations

import os

BACKENDS = ("auto", "native", "reference")


def _backend() -> str:
    value = os.environ.get("KAN_FAST_BACKEND", "auto")
    if value not in BACKENDS:
        raise ValueError(
            f"KAN_FAST_BACKEND must be one of {', '.join(BACKENDS)}, got {value!r}; unset it for "
            "the automatic choice"
        )
    return value


#: backend to use for every layer; "auto" lets the planner choose
BACKEND = _backend()
#: "1" makes `accelerate` a no-op that reports why
DISABLE = os.environ.get("KAN_FAST_DISABLE", "0") not in ("", "0")
