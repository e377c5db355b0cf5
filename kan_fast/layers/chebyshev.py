"""`ChebyshevKANLinear`: Chebyshev polynomials on every edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kan_fast.errors import ShapeError
from kan_fast.ops.full_basis import chebyshev_linear


class ChebyshevKANLinear(nn.Module):
    """A KAN layer of Chebyshev polynomials of tanh of the input.

    y[..., o] = sum_i sum_n weight[o,i,n] T_n(tanh(x[..., i]))

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        degree: highest degree, >= 0.
        device, dtype: as in `nn.Linear`.

    State: `weight` `[out_features, in_features, degree + 1]`; ChebyKAN's `cheby_coeffs` have inputs
    first, `kan_fast.convert` goes both ways.

    Source: SynodicMonth, ChebyKAN (interface; the initial values are of the same distribution).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        degree: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0 or degree < 0:
            raise ShapeError(
                "ChebyshevKANLinear: in_features, out_features and degree must not be negative, "
                f"got in_features={in_features}, out_features={out_features}, degree={degree}"
            )
        self.in_features, self.out_features, self.degree = in_features, out_features, degree
        weight = torch.empty(out_features, in_features, degree + 1, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights."""
        nn.init.normal_(self.weight, std=1 / max(1, self.in_features * (self.degree + 1)))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        return chebyshev_linear(torch.tanh(x), self.weight)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"degree={self.degree}"
        )
