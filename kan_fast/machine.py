"""Facts about this machine and installation, gathered once."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType

# torch first: the extension must find the OpenMP runtime that torch has already loaded
import torch  # noqa: F401


@dataclass(frozen=True)
class Machine:
    """What the planner may know.

    Args:
        extension: instruction set in use by `kan_fast._C`, or None when it cannot be loaded.
        extension_error: why it cannot be loaded.
    """

    extension: str | None
    extension_error: str = ""


@functools.cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("kan_fast._C"), ""
    except ImportError as error:
        return None, str(error)


def extension() -> ModuleType:
    """The loaded `kan_fast._C`."""
    module, error = _load()
    if module is None:
        raise ImportError(error)
    return module


@functools.cache
def facts() -> Machine:
    """The facts of this process."""
    module, error = _load()
    if module is None:
        return Machine(None, error)
    return Machine(module.active_isa())
