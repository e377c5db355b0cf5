"""What a script's last lines say of its KAN layers, of one process or of several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kan_fast.interop import unrecognised as unknown
from kan_fast.interop.runs import Runs


@dataclass
class Tally:
    """Counts.

    Args:
        accelerated: layers by backend.
        left: layers that were left alone, by name and reason.
        runs: of every layer what it is, its library, and its calls.
        unrecognised: layers that look like KANs and that no adapter knows, by class.
        compared: calls that were verified.
        worst: the largest difference found by that.
    """

    accelerated: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    runs: list[tuple[str, str, Runs]] = field(default_factory=list)
    unrecognised: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    worst: float = 0.0

    def add(self, other: Tally) -> None:
        """Adds those of another process."""
        self.accelerated.update(other.accelerated)
        self.left.update(other.left)
        self.runs = [*self.runs, *other.runs]
        self.unrecognised.update(other.unrecognised)
        self.compared += other.compared
        self.worst = max(self.worst, other.worst)

    def as_json(self) -> dict[str, Any]:
        """The same in numbers, lists and strings."""
        return {
            **{n: dict(getattr(self, n)) for n in ("accelerated", "left", "unrecognised")},
            "runs": [
                [name, kind, dict(r.by), dict(r.own), dict(r.part)] for name, kind, r in self.runs
            ],
            "compared": self.compared,
            "worst": self.worst,
        }

    @staticmethod
    def of_json(given: dict[str, Any]) -> Tally:
        """What `as_json` gave."""
        runs = []
        for name, kind, *counts in given["runs"]:
            runs.append((name, kind, Runs()))
            for counter, given_counts in zip(("by", "own", "part"), counts, strict=True):
                getattr(runs[-1][2], counter).update(given_counts)
        counters = (Counter(given[n]) for n in ("accelerated", "left"))
        return Tally(
            *counters, runs, Counter(given["unrecognised"]), given["compared"], given["worst"]
        )

    def text(self) -> str:
        """One line, and one for each reason why layers or calls were left to their own code."""
        done = sum(self.accelerated.values())
        total = done + sum(self.left.values())
        stranger = unknown.text(self.unrecognised)
        if not total:
            return "kan_fast: no KAN layer was called" + (f"; {stranger}" if stranger else "")
        how = ", ".join(f"{n} by {backend}" for backend, n in self.accelerated.items())
        first = f"kan_fast: {done} of {total} KAN layers accelerated" + (f" ({how})" if how else "")
        every, kinds, reasons = Runs(), [], Counter()
        for name, kind, runs in self.runs:
            every.add(runs)
            if runs.own or runs.part:
                kinds.append(kind)
            for counter in (runs.own, runs.part):
                reasons.update({f"{name}: {reason}": n for reason, n in counter.items()})
        whose = f"{kinds[0]}'s" if len(set(kinds)) == 1 else "their"
        if calls := every.text(whose):
            first += f": {calls}"
        if self.compared:
            first += f"; {self.compared} calls verified, largest difference {self.worst:.1e}"
        lines = [first]
        lines += [f"  left alone: {n} x {reason}" for reason, n in self.left.items()]
        lines += [
            f"  own code: {n} calls of {reason}"
            for reason, n in reasons.items()
            if reason not in self.left
        ]
        return "\n".join([*lines, *([f"  {stranger}"] if stranger else [])])
