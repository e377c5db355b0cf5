"""Frozen facts that the planner, the backends and the oracle share. No tensors here."""

from __future__ import annotations

from dataclasses import dataclass

#: Base activations that kernels evaluate themselves, with the numbers that stand for them there
#: (`kernels/include/kan_fast/activation.h`).
ACTIVATIONS: dict[str, int] = {
    "silu": 0,
    "identity": 1,
    "zero": 2,
    "relu": 3,
    "gelu": 4,
    "tanh": 5,
}

#: Highest polynomial degree of the spline pieces.
MAX_SPLINE_ORDER = 7
#: Highest derivative of the basis that is available.
MAX_DERIVATIVE = 5
#: Number types of layers; half precision is computed in float32 and rounded once.
DTYPES = ("float32", "float64", "bfloat16", "float16")
#: Least compute capability of a GPU that kernels run on: tensor cores with TF32 and bfloat16.
LEAST_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class WindowedBasis:
    """B-splines: a few functions are active at a time, which the cell of the input tells.

    Args:
        spline_order: polynomial degree of the pieces, 0..7.
        activation: a key of `ACTIVATIONS`; the base branch.
    """

    spline_order: int
    activation: str = "silu"


#: Families whose functions are all evaluated for every input, with the numbers that stand for them
#: in kernels (`kernels/cpu/full.h`, `kernels/triton_jit/full_basis.py`).
FULL_FAMILIES: dict[str, int] = {"gaussian_rbf": 0, "chebyshev": 1, "activation": 2}


@dataclass(frozen=True)
class FullBasis:
    """The functions of a family that is evaluated in full.

    Args:
        family: a key of `FULL_FAMILIES`.
        num_basis: functions of an input.
        width: of Gaussians, exp(-((x - u) / width)^2).
        activation: a key of `ACTIVATIONS`, the only function of the family "activation".
    """

    family: str
    num_basis: int
    width: float = 1.0
    activation: str = "zero"


@dataclass(frozen=True)
class Problem:
    """A call, as far as the choice of a backend depends on it.

    Args:
        device: type of the device, such as "cpu" or "cuda".
        dtype: of the weights.
        spline_order: of a windowed basis; 0 for a full one.
        transform: what only plain torch operators get right, in words, or None.
        capability: compute capability of a CUDA device.
        asked: whether a backend was asked for by name.
    """

    device: str
    dtype: str
    spline_order: int
    transform: str | None = None
    capability: tuple[int, int] | None = None
    asked: bool = False


@dataclass(frozen=True)
class Plan:
    """The backend that will run a problem, and a sentence for each that will not."""

    backend: str
    refusals: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Machine:
    """What the planner decides on.

    Args:
        extension: instruction set in use by `kan_fast._C`, or None when it cannot be loaded.
        extension_error: why it cannot be loaded.
        triton: version of Triton, or None when its kernels cannot be launched.
        triton_error: why they cannot, and what to do.
        interpreter: whether Triton runs in its interpreter, on CPU tensors (TRITON_INTERPRET=1).
        cuda: whether `kan_fast._C` has CUDA kernels.
        cuda_emulated: whether CPU tensors may run them, on the host (KAN_FAST_CUDA_EMULATE).
    """

    extension: str | None
    extension_error: str = ""
    triton: str | None = None
    triton_error: str = "not looked for"
    interpreter: bool = False
    cuda: bool = False
    cuda_emulated: bool = False


@dataclass(frozen=True)
class Gpu:
    """What the choice of a tile depends on, of a GPU."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    interpreter: bool = False
