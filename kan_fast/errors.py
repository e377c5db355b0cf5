"""Error types. Every message says what was expected, what was got, and what to do."""

from __future__ import annotations


class ShapeError(ValueError):
    """A tensor has the wrong shape."""


class DtypeError(TypeError):
    """A tensor has a dtype that cannot be used, or dtypes or devices are mixed."""


class BackendUnavailable(RuntimeError):
    """A backend was asked for by name and cannot run this problem here."""


class DerivativeError(NotImplementedError):
    """A derivative was asked for that is not available; never silently dropped."""


class GridError(ValueError):
    """Knots, a grid range or the data of a grid update are unusable; nothing was changed."""
