"""How often a layer ran, and by what."""

from __future__ import annotations

from collections import Counter


class Runs:
    """Calls of one layer, or of several.

    Args:
        by: calls by kernel, the backend's name.
        own: calls that ran the library's own code, by reason.
    """

    __slots__ = ("by", "own")

    def __init__(self) -> None:
        self.by: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
