"""Layers of families whose functions are all active everywhere: Gaussians and Chebyshev."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kan_fast import reference, torch_internals
from kan_fast.backends import BACKENDS
from kan_fast.backends.layer import as_layer
from kan_fast.backends.plain import lacks_address
from kan_fast.errors import DtypeError, ShapeError
from kan_fast.ops.around import LayerWithAround, Parts
from kan_fast.ops.autograd import Out
from kan_fast.ops.plan import autocast_enabled, plain, plan_for
from kan_fast.spec import ACTIVATIONS, FullBasis


def gaussian_rbf_linear(
    x: Tensor, centers: Tensor, weight: Tensor, width: float, *, backend: str = "auto"
) -> Tensor:
    """y[..., o] = sum_i sum_g weight[o,i,g] exp(-((x[..., i] - centers[g]) / width)^2)

    Args:
        x: `[..., in_features]`, float32 or float64, or bfloat16 or float16, whose functions are
            computed in float32; any strides, zero rows allowed.
        centers: `[num_basis]`, without gradient.
        weight: `[out_features, in_features, num_basis]`.
        width: > 0.
        backend: "auto", or one of `kan_fast.backends.BACKENDS`, as in `kan_linear`.

    Returns:
        `[..., out_features]`, differentiable with respect to `x` and `weight` any number of times
        up to derivative 5 of the functions.

    Raises:
        ShapeError, DtypeError: inputs that do not fit together.
        ValueError: width not above zero; an unknown backend.
        BackendUnavailable: the backend asked for cannot run this.

    Source: Li, Kolmogorov-Arnold Networks are Radial Basis Function Networks, arXiv:2405.06721.
    """
    if not 0 < width < float("inf"):
        raise ValueError(f"gaussian_rbf_linear: width must be above 0 and finite, got {width}")
    num_basis = weight.shape[-1] if weight.dim() else 0
    if centers.shape != (num_basis,):
        raise ShapeError(
            f"gaussian_rbf_linear: centers must have shape [num_basis={num_basis}] for weight "
            f"{list(weight.shape)}, got {list(centers.shape)}"
        )
    if centers.requires_grad:
        raise DtypeError(
            "gaussian_rbf_linear: centers must not require a gradient (none is defined for them), "
            "got centers with requires_grad=True; pass centers.detach()"
        )
    basis = FullBasis("gaussian_rbf", num_basis, float(width))
    return _full_linear("gaussian_rbf_linear", x, centers, weight, basis, backend)


def chebyshev_linear(t: Tensor, weight: Tensor, *, backend: str = "auto") -> Tensor:
    """y[..., o] = sum_i sum_n weight[o,i,n] T_n(t[..., i]), T_n Chebyshev's polynomials

    Args:
        t: `[..., in_features]`, as `x` of `gaussian_rbf_linear`; the polynomials grow fast outside
            [-1, 1], so that layers apply tanh before.
        weight: `[out_features, in_features, degree + 1]`.

    Returns, Raises:
        as `gaussian_rbf_linear`. The derivative at -1 and 1 is the polynomials' own, where the form
        cos(n arccos t) of other packages gives NaN.

    Source: SynodicMonth, ChebyKAN.
    """
    basis = FullBasis("chebyshev", weight.shape[-1] if weight.dim() else 0)
    return _full_linear("chebyshev_linear", t, None, weight, basis, backend)


def activation_linear(
    x: Tensor, weight: Tensor, activation: str, *, backend: str = "auto"
) -> Tensor:
    """y[..., o] = sum_i weight[o,i] activation(x[..., i]): `F.linear(activation(x), weight)` in one
    call that stores no activations.

    Args:
        x: `[..., in_features]`, as in `gaussian_rbf_linear`.
        weight: `[out_features, in_features]`.
        activation: "silu", "identity", "zero", "relu", "gelu" or "tanh".
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation_linear: activation must be one of {', '.join(ACTIVATIONS)}, got "
            f"{activation!r}"
        )
    basis = FullBasis("activation", 1, activation=activation)
    return _full_linear("activation_linear", x, None, weight.unsqueeze(-1), basis, backend)


def gaussian_rbf_layer(
    x: Tensor, centers: Tensor, weight: Tensor, width: float, norm: nn.LayerNorm | None,
    base: nn.Linear | None, activation: str,
) -> Tensor:  # fmt: skip
    """`gaussian_rbf_linear(norm(x), ...) + base(activation(x))`, one kernel call where that can be.

    Args:
        x: `[..., in_features]`.
        norm: a normalisation of the last dimension; None for none.
        base: its weight `[out_features, in_features]` and bias are used; None for none.
        activation: a name, as in `activation_linear`.
    """
    if plain(x.device.type) and x.dtype in (torch.float32, torch.float64):
        kernels = BACKENDS[plan_for(x, weight, 0).backend].full_kernels(weight)
        base_weight = bias = norm_weight = norm_bias = eps = None
        if base is not None:
            base_weight, bias = base.weight, base.bias
        if norm is not None:
            norm_weight, norm_bias, eps = norm.weight, norm.bias, norm.eps
        tensors = (centers, weight, base_weight, bias, norm_weight, norm_bias)
        outputs, inputs = weight.shape[:2]
        shapes = (weight.shape[2:], None, (outputs, inputs), (outputs,), (inputs,), (inputs,))
        if (
            kernels is not None
            and kernels.takes_around
            and not lacks_address(x, *tensors)
            and all(
                t is None or (t.dtype is x.dtype and shape in (None, t.shape))
                for t, shape in zip(tensors, shapes, strict=True)
            )
        ):
            rows = x if x.dim() == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
            parts = Parts(
                FullBasis("gaussian_rbf", centers.shape[0], float(width)),
                None if base is None else activation,
                eps,
                kernels,
            )
            y = LayerWithAround.apply(
                rows, centers, weight, None, base_weight, bias, norm_weight, norm_bias, parts
            )
            return y if x.dim() == 2 else y.reshape(*x.shape[:-1], weight.shape[0])
    y = gaussian_rbf_linear(x if norm is None else norm(x), centers, weight, width)
    if base is None:
        return y
    y = y + activation_linear(x, base.weight, activation)
    return y if base.bias is None else y + base.bias.to(y.dtype)


def _check(name: str, x: Tensor, centers: Tensor | None, weight: Tensor) -> None:
    if weight.dim() != 3:
        raise ShapeError(
            f"{name}: weight must have shape [out_features, in_features, num_basis], got "
            f"{list(weight.shape)}"
        )
    if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{name}: the input must have shape [..., in_features={weight.shape[1]}], got "
            f"{list(x.shape)}"
        )
    if not x.is_floating_point():
        raise DtypeError(
            f"{name}: the input must be a floating-point tensor, got {x.dtype}; call .float()"
        )
    for what, tensor in (("weight", weight), ("centers", centers)):
        if tensor is not None and tensor.device != x.device:
            raise DtypeError(
                f"{name}: the input and {what} must be on the same device, got {x.device} and "
                f"{tensor.device}; move one with .to()"
            )


def _full_linear(
    name: str, x: Tensor, centers: Tensor | None, weight: Tensor, basis: FullBasis, backend: str
) -> Tensor:
    _check(name, x, centers, weight)
    device = x.device.type
    if x.dtype is not torch.float64 and autocast_enabled(device):
        product_dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            # coordinates stay in the precision of the weights
            wide = x.to(weight.dtype)
            return _apply(wide, centers, weight, basis, backend, product_dtype).to(product_dtype)
    if x.dtype is not weight.dtype:
        raise DtypeError(
            f"{name}: the input and weight must have the same dtype, got {x.dtype} and "
            f"{weight.dtype}; call .to({weight.dtype}) or move the layer with .to({x.dtype})"
        )
    return _apply(x, centers, weight, basis, backend, None)


def _apply(
    x: Tensor,
    centers: Tensor | None,
    weight: Tensor,
    basis: FullBasis,
    backend: str,
    product_dtype: torch.dtype | None,
) -> Tensor:
    # a graph's compiler fuses the plain operators itself
    kernels = None
    if not torch.compiler.is_compiling() or torch_internals.is_exporting():
        chosen = BACKENDS[plan_for(x, weight, 0, backend).backend]
        kernels = chosen.full_kernels(weight, product_dtype)
    if kernels is None:
        return reference.full_linear(x, centers, weight, basis)
    if x.dtype not in (torch.float32, torch.float64):
        wide = (x.float(), None if centers is None else centers.float(), weight.float())
        return _apply(*wide, basis, backend, product_dtype or x.dtype).to(x.dtype)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    at = None if centers is None else centers.to(x.dtype)
    layer = as_layer((at, weight, None, None, basis))
    if torch.is_grad_enabled():
        y = Out.apply(rows, None, *layer, kernels, 0)
    else:
        y = kernels.out(rows, None, layer, 0)
    return y if x.dim() == 2 else y.reshape(*x.shape[:-1], weight.shape[0])
