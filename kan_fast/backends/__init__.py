"""Backends, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from types import ModuleType

from kan_fast.backends import native, reference

#: each module offers `name`, `why_not(problem, facts)` and `kan_linear(...)`
BACKENDS: dict[str, ModuleType] = {module.name: module for module in (native, reference)}
