"""Error types. Every message says what was expected, what was got, and what to do."""

from __future__ import annotations

from kan_fast.spec import MAX_DERIVATIVE


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


class ConversionError(ValueError):
    """A layer or checkpoint has what the other format cannot express; nothing was converted."""


def check_derivative(derivative: int) -> None:
    """Raises DerivativeError where no kernel has that derivative of the basis."""
    if derivative > MAX_DERIVATIVE:
        raise DerivativeError(
            f"kan_fast: derivatives of the basis are available up to order {MAX_DERIVATIVE}, got "
            f"{derivative}; use backend='reference' for this layer, which differentiates any "
            "number of times"
        )
