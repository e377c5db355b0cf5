"""How often layers ran, and by what."""

from __future__ import annotations

from collections import Counter


class Runs:
    """Calls of one layer, or of several.

    Args:
        by: calls by kernel, the backend's name.
        own: calls that ran the library's own code, by reason.
        part: calls by a kernel in which the library's own code ran a part, by reason.
    """

    __slots__ = ("by", "own", "part")

    def __init__(self) -> None:
        self.by: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.part: Counter[str] = Counter()

    def partly(self, reason: str) -> None:
        """Notes that the library's own code runs a part of the present call."""
        self.part[reason] += 1

    def add(self, other: Runs) -> None:
        """Adds the calls of another layer."""
        self.by.update(other.by)
        self.own.update(other.own)
        self.part.update(other.part)

    def text(self, library: str) -> str:
        """`1099 calls by native, 851 by pykan's own code`; empty where there was no call.

        Args:
            library: as in "pykan's".
        """
        parts = [f"{n} by {backend}" for backend, n in sorted(self.by.items()) if n]
        if parts and (part := self.part.total()):
            parts[-1] += f" with {part} parts by {library} own code"
        if own := self.own.total():
            parts.append(f"{own} by {library} own code")
        if parts:
            number, _, rest = parts[0].partition(" ")
            parts[0] = f"{number} call{'s' if number != '1' else ''} {rest}"
        return ", ".join(parts)
