"""kan_fast: Kolmogorov-Arnold Networks at the speed of an MLP, exactly."""

from kan_fast.errors import (
    BackendUnavailable,
    ConversionError,
    DerivativeError,
    DtypeError,
    GridError,
    ShapeError,
)
from kan_fast.inspect.edges import coefficients
from kan_fast.inspect.plot import plot
from kan_fast.interop import convert
from kan_fast.interop.accelerate import Report, accelerate, explain, report, restore
from kan_fast.interop.zero_code import install, uninstall
from kan_fast.layers.chebyshev import ChebyshevKANLinear
from kan_fast.layers.gaussian import GaussianKANLinear
from kan_fast.layers.lazy import LazyKANLinear
from kan_fast.layers.network import KAN
from kan_fast.layers.shared_grids import shared_grids
from kan_fast.layers.spline import KANLinear
from kan_fast.ops.full_basis import chebyshev_linear, gaussian_rbf_linear
from kan_fast.ops.spline import kan_linear
from kan_fast.version import __version__

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
