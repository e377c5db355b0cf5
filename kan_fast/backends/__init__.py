"""Backends, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from kan_fast import envs
from kan_fast.backends.base import Backend
from kan_fast.backends.cpu.backend import Native
from kan_fast.backends.cuda.backend import Cuda
from kan_fast.backends.reference import Reference
from kan_fast.backends.triton.backend import Triton

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Native(), Triton(), Cuda(), Reference())
}

if envs.BACKEND not in ("auto", *BACKENDS):
    raise ValueError(
        f"KAN_FAST_BACKEND must be one of auto, {', '.join(BACKENDS)}, got {envs.BACKEND!r}; unset "
        "it for the automatic choice"
    )
