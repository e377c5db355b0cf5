"""The libraries that tests run beside ours; a gate without them is not a gate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import real_libraries  # noqa: E402

Found = TypeVar("Found")


def or_why_not(find: Callable[[], Found]) -> tuple[Found | None, str]:
    """What `find` of `real_libraries` finds, or None and the reason; in CI that is an error."""
    try:
        return find(), ""
    except real_libraries.Missing as why:
        if os.environ.get("CI"):
            raise
        return None, str(why)


def or_skip(find: Callable[[], Found]) -> Found:
    """The same; without it the test, or the module that asks, is skipped."""
    found, why = or_why_not(find)
    if found is None:
        pytest.skip(why, allow_module_level=True)
    return found


def pykan() -> ModuleType:
    """The module `kan` of pykan, or a skip."""
    folder = or_skip(real_libraries.pykan)
    if folder not in sys.path:
        sys.path.append(folder)
    if os.environ.get("CI"):
        import kan

        return kan
    return pytest.importorskip("kan", reason="pykan cannot be imported here")
