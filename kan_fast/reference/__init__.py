"""THE ORACLE: the layer in plain PyTorch, as a textbook writes it.

Readable, slow, any float dtype, any device, any derivative. It imports nothing that it judges.
"""

from kan_fast.reference.activation import activation
from kan_fast.reference.bspline import bspline_basis
from kan_fast.reference.chebyshev import chebyshev_basis
from kan_fast.reference.full_basis import full_features, full_linear
from kan_fast.reference.gaussian_rbf import gaussian_rbf_basis
from kan_fast.reference.layer import (
    contract_in,
    contract_out,
    contract_weight,
    features,
    fold,
    kan_linear,
)

__all__ = [
    "activation",
    "bspline_basis",
    "chebyshev_basis",
    "contract_in",
    "contract_out",
    "contract_weight",
    "full_features",
    "full_linear",
    "features",
    "fold",
    "gaussian_rbf_basis",
    "kan_linear",
]
