"""kan_fast: Kolmogorov-Arnold Networks at the speed of an MLP, exactly."""

from kan_fast import convert
from kan_fast.accelerate import Report, accelerate, explain, report, restore
from kan_fast.chebyshev import ChebyshevKANLinear
from kan_fast.dense import chebyshev_linear, gaussian_rbf_linear
from kan_fast.edges import coefficients
from kan_fast.errors import (
    BackendUnavailable,
    ConversionError,
    DerivativeError,
    DtypeError,
    GridError,
    ShapeError,
)
from kan_fast.functional import kan_linear
from kan_fast.gaussian import GaussianKANLinear
from kan_fast.layers import KANLinear
from kan_fast.lazy import LazyKANLinear
from kan_fast.model import KAN
from kan_fast.plot import plot
from kan_fast.shared_grids import shared_grids
from kan_fast.version import __version__
from kan_fast.zero_code import install, uninstall

__all__ = [
    "KAN",
    "BackendUnavailable",
    "ChebyshevKANLinear",
    "ConversionError",
    "DerivativeError",
    "DtypeError",
    "GaussianKANLinear",
    "GridError",
    "KANLinear",
    "LazyKANLinear",
    "Report",
    "ShapeError",
    "__version__",
    "accelerate",
    "chebyshev_linear",
    "coefficients",
    "convert",
    "explain",
    "gaussian_rbf_linear",
    "install",
    "kan_linear",
    "plot",
    "report",
    "restore",
    "shared_grids",
    "uninstall",
]


def load_ipython_extension(ipython: object) -> None:
    """`%load_ext kan_fast` in a notebook: every KAN layer from here on is accelerated."""
    install()


def unload_ipython_extension(ipython: object) -> None:
    """`%unload_ext kan_fast`."""
    uninstall()
