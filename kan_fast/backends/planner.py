"""Which backend runs a problem: a pure function of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kan_fast.errors import BackendUnavailable
from kan_fast.spec import Machine, Plan, Problem


class CanRefuse(Protocol):
    """What the planner asks of a backend."""

    def why_not(self, problem: Problem, facts: Machine) -> str | None:
        """The reason why `problem` cannot run, as a sentence; None when it can."""


def choose(
    problem: Problem, facts: Machine, backends: Mapping[str, CanRefuse], wanted: str = "auto"
) -> Plan:
    """The first backend that does not refuse, with the refusals of those before it.

    Args:
        problem: what is asked for.
        facts: what this machine offers.
        backends: candidates by name, in order of preference.
        wanted: a name to insist on, or "auto".

    Raises:
        ValueError: `wanted` is no backend.
        BackendUnavailable: the wanted backend refuses.
    """
    if wanted != "auto" and wanted not in backends:
        raise ValueError(
            f"kan_fast: backend must be 'auto' or one of {', '.join(backends)}, got {wanted!r}"
        )
    refusals: list[tuple[str, str]] = []
    for name, backend in backends.items():
        if wanted not in ("auto", name):
            continue
        reason = backend.why_not(problem, facts)
        if reason is None:
            return Plan(name, tuple(refusals))
        refusals.append((name, reason))
    raise BackendUnavailable(
        "kan_fast: "
        + "; ".join(f"{name} was asked for but {reason}" for name, reason in refusals)
        + "; use backend='auto'"
    )
