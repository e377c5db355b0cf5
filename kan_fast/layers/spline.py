"""`KANLinear`: efficient-kan's constructor, parameters and checkpoints, our kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kan_fast.errors import DtypeError, GridError, ShapeError
from kan_fast.layers import grid as grids
from kan_fast.layers.activations import known_activation
from kan_fast.layers.regularization import edge_penalty, l1_and_entropy
from kan_fast.layers.shared_grids import agree, of_all_processes
from kan_fast.ops.spline import kan_linear
from kan_fast.reference import bspline_basis
from kan_fast.spec import MAX_SPLINE_ORDER


class KANLinear(nn.Module):
    """A KAN layer: a learnable spline plus a weighted base activation on every edge.

    Args:
        in_features: size of the last dimension of the input, >= 0.
        out_features: size of the last dimension of the output, >= 0.
        grid_size: number of intervals in `grid_range`, >= 1.
        spline_order: polynomial degree of the pieces, 0..7.
        scale_noise: size of the random splines at the start.
        scale_base: enters the start of `base_weight` as `a = sqrt(5) * scale_base` of Kaiming's
            uniform initialisation.
        scale_spline: the same for `spline_scaler`; multiplies `spline_weight` where there is none.
        enable_standalone_scale_spline: whether edges have a factor `spline_scaler` of their own.
        base_activation: a module class or any factory of a callable; SiLU, Identity, ReLU, GELU
            and Tanh run inside the kernels.
        grid_eps: share of the uniform grid in `update_grid`, 0..1.
        grid_range: `(low, high)`.
        device, dtype: as in `nn.Linear`.

    State: buffer `grid` `[in_features, grid_size + 2 * spline_order + 1]`, parameters `base_weight`
    and `spline_scaler` `[out_features, in_features]`, `spline_weight` `[out_features, in_features,
    grid_size + spline_order]`: names, shapes and, for a seed, initial values of efficient-kan.

    Source: efficient-kan 7b6ce1c (interface and initialisation).
    """

    grid: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        enable_standalone_scale_spline: bool = True,
        base_activation: Callable[[], Callable[[Tensor], Tensor]] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0:
            raise ShapeError(
                "KANLinear: in_features and out_features must not be negative, got "
                f"in_features={in_features}, out_features={out_features}"
            )
        if not 0 <= spline_order <= MAX_SPLINE_ORDER:
            raise ShapeError(
                f"KANLinear: spline_order must be 0..{MAX_SPLINE_ORDER}, got {spline_order}"
            )
        low, high = grid_range
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.scale_noise = scale_noise
        self.scale_base = scale_base
        self.scale_spline = scale_spline
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.base_activation = base_activation()
        self.grid_eps = grid_eps
        self.grid_range = (low, high)

        knots = grids.uniform_knots(
            in_features, grid_size, spline_order, self.grid_range, device, dtype
        )
        self.register_buffer("grid", knots)
        like = {"device": device, "dtype": dtype}
        edges = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(edges, **like))
        self.spline_weight = nn.Parameter(torch.empty((*edges, self.num_basis), **like))
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.empty(edges, **like))
        self.reset_parameters()

    @property
    def num_basis(self) -> int:
        """Spline functions per input, grid_size + spline_order."""
        return self.grid_size + self.spline_order

    @property
    def scaled_spline_weight(self) -> Tensor:
        """`spline_weight` with the standalone scale multiplied in, `[out, in, num_basis]`."""
        if not self.enable_standalone_scale_spline:
            return self.spline_weight
        return self.spline_weight * self.spline_scaler.unsqueeze(-1)

    def reset_grid(self) -> None:
        """Puts the uniform grid over `grid_range` back; the weights stay as they are."""
        self.grid.copy_(
            grids.uniform_knots(
                self.in_features, self.grid_size, self.spline_order, self.grid_range,
                self.grid.device, self.grid.dtype,
            )
        )  # fmt: skip

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh weights: the draws of efficient-kan in its order, so seeds carry over."""
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5) * self.scale_base)
        points = self.grid_size + 1
        noise = torch.rand(
            (points, self.in_features, self.out_features),
            device=self.spline_weight.device,
            dtype=self.spline_weight.dtype,
        )
        noise = (noise - 0.5) * (self.scale_noise / self.grid_size)
        # least-norm splines through the noise at the knots; the grid is the same for all inputs
        knots = self.grid[:1].double()
        if knots.numel() == 0:
            knots = knots.new_zeros(1, knots.shape[1])  # no inputs: nothing to fit
        inner = knots.T[self.spline_order : knots.shape[1] - self.spline_order]
        at_knots = bspline_basis(inner, knots, self.spline_order)[:, 0]
        if knots.device.type != "meta":
            fit = torch.linalg.pinv(at_knots)
            weight = torch.einsum("gp,pio->oig", fit, noise.double())
            if not self.enable_standalone_scale_spline:
                weight = weight * self.scale_spline
            self.spline_weight.copy_(weight)
        if self.enable_standalone_scale_spline:
            nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5) * self.scale_spline)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        try:
            # straight from the dictionaries: nn.Module's own lookup takes as long as a small layer
            weight = self._parameters["spline_weight"]
            standalone = self.enable_standalone_scale_spline
            scaler = self._parameters["spline_scaler"] if standalone else None
            base_weight = self._parameters["base_weight"]
        except KeyError:  # parametrised, pruned, or a replica of DataParallel
            weight, base_weight = self.spline_weight, self.base_weight
            scaler = self.spline_scaler if self.enable_standalone_scale_spline else None
        activation = self._modules.get("base_activation") or self.base_activation
        return kan_linear(
            x,
            self._buffers["grid"],
            weight,
            scaler,
            base_weight,
            spline_order=self.spline_order,
            base_activation=known_activation(activation),
        )

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01, robust: bool = False) -> None:
        """Moves the knots to where the data is and refits the splines, preserving the function.

        efficient-kan fits the *scaled* splines and leaves the scaler in place, so there the
        function changes whenever `enable_standalone_scale_spline` is on; here it does not.

        Args:
            x: `[..., in_features]`, finite, at least grid_size + spline_order rows; inside
                `kan_fast.shared_grids()` all processes together.
            margin: room on each side of the data, in units of x.
            robust: take any data with one finite number in each column: other numbers are left
                out, ties do not collapse intervals, and splines stay what they were where there is
                no data.

        Raises:
            GridError, ShapeError, DtypeError: unusable data. The old grid and weights survive.
        """
        if x.dim() < 1 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"update_grid: x must have shape [..., in_features={self.in_features}], got "
                f"{list(x.shape)}"
            )
        if not x.is_floating_point():
            raise DtypeError(
                f"update_grid: x must be a floating-point tensor, got {x.dtype}; call x.float()"
            )
        # half precision cannot place knots: work in float32 at least, round at the end
        rows = x.reshape(math.prod(x.shape[:-1]), self.in_features)
        rows = rows.to(torch.promote_types(self.grid.dtype, torch.float32))
        rows = of_all_processes(rows)
        grids.check_data(rows, self.num_basis, robust)
        place, fit = (
            (grids.robust_knots, grids.robust_refit)
            if robust
            else (grids.quantile_knots, grids.refit)
        )
        knots = place(rows, self.grid_size, self.spline_order, self.grid_eps, margin)
        knots = knots.to(self.grid.dtype)
        grids.check_knots(knots, self.spline_order)
        rows = rows[torch.isfinite(rows).all(1)]
        weight = fit(rows, self.grid, knots, self.spline_weight, self.spline_order)
        self.grid.copy_(knots)
        self.spline_weight.copy_(weight)
        agree(self.grid, self.spline_weight)

    @torch.no_grad()
    def refine(self, grid_size: int) -> None:
        """Gives the splines a finer (or coarser) grid over the same range, keeping the function.

        Where `grid_size` is a multiple of the old one the function on the grid range stays exactly
        what it was; otherwise it becomes the nearest one in the sense of least squares, computed
        in float64. Beyond the range the splines fade over the width of the new intervals.

        `spline_weight` and `grid` change their shapes, so they are new tensors: make the optimizer
        anew.

        Raises:
            GridError: grid_size below 1. The layer is unchanged.
        """
        if grid_size < 1:
            raise GridError(f"refine: grid_size must be at least 1, got {grid_size}")
        knots = grids.refined_knots(self.grid, grid_size, self.spline_order)
        knots = knots.to(self.grid.dtype)
        grids.check_knots(knots, self.spline_order)
        weight = grids.project(self.grid, knots, self.spline_weight, self.spline_order)
        self.grid = knots
        # the layout of a fresh parameter: LBFGS asks for it, and kernels would copy any other
        weight = weight.contiguous()
        self.spline_weight = nn.Parameter(weight, requires_grad=self.spline_weight.requires_grad)
        self.grid_size = grid_size

    def activation_regularization_loss(
        self,
        x: Tensor,
        regularize_activation: float = 1.0,
        regularize_entropy: float = 1.0,
        size: str = "l1",
    ) -> Tensor:
        """L1 and entropy of the edge functions themselves over a batch, a scalar.

        Args:
            x: `[..., in_features]`, the layer's input.
            size: of an edge function: "l1", the mean of its absolute value as in the paper, or
                "std", its standard deviation, as pykan has it, which is much faster.

        Returns:
            regularize_activation * sum s - regularize_entropy * sum p log p with s[o,i] the sizes
            and p = s / sum s, in the dtype of the parameters, without any
            `[rows, out_features, in_features]` tensor.

        Raises:
            ValueError: an unknown size. ShapeError: x does not fit, or has no rows.

        Source: Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756, eq. 2.17 to 2.20.
        """
        count = math.prod(x.shape[:-1])
        if x.dim() < 1 or x.shape[-1] != self.in_features or count == 0:
            raise ShapeError(
                "activation_regularization_loss: x must have shape [..., in_features="
                f"{self.in_features}] and at least one row, got {list(x.shape)}"
            )
        rows = x.reshape(count, self.in_features)
        return edge_penalty(self, rows, size, regularize_activation, regularize_entropy)

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """L1 and entropy of the spline coefficients, a scalar.

        With l[o,i] = mean_g |spline_weight[o,i,g]| and p = l / sum l, it is
        regularize_activation * sum l - regularize_entropy * sum p log p; an edge that is exactly
        zero adds nothing.

        Source: efficient-kan 7b6ce1c, `regularization_loss`.
        """
        size = self.spline_weight.abs().mean(-1)
        return l1_and_entropy(size, regularize_activation, regularize_entropy)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"grid_size={self.grid_size}, spline_order={self.spline_order}"
        )
