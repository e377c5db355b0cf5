"""The Triton kernels against the oracle: on a GPU where there is one, else in the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from cases import Case, make_case
from judge import compare, layer_and_gradients, triton

from kan_fast import kan_linear, machine, reference
from kan_fast.backends.triton import tiles
from kan_fast.spec import Gpu
from kan_fast.testing import BF16_EPS, GRADIENT_FACTOR, TF32_EPS, assert_within_tolerance

if machine.facts().triton is None:
    pytest.skip(f"Triton: {machine.facts().triton_error}", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float64]


def case_of(*args, **kwargs) -> Case:
    return make_case(*args, **kwargs).to(DEVICE)


def random(case: Case, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=case.x.dtype).to(DEVICE)


@pytest.fixture
def many_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter as a GPU that is worth splitting sums for."""
    if machine.facts().interpreter:
        monkeypatch.setattr(machine, "gpu", lambda _: Gpu("interpreter", (0, 0), 40, True))


@pytest.mark.parametrize("scaler", [True, False], ids=["scaler", "no-scaler"])
def test_sums_over_many_rows_are_split(scaler: bool, many_multiprocessors: None) -> None:
    case = case_of(5003, 2, 12, scaler=scaler)
    compare(case, triton)
    shape = tiles.Shape("tf32x3", 5003, 2, 12, 8, 3, machine.gpu(case.x.device))
    assert tiles.splits(shape, tiles.for_in_weight(shape), True, True)[0] > 1


def test_offsets_beyond_32_bits() -> None:
    # untouched pages of the buffer take no memory
    stride = 2**31 + 16
    case = case_of(3, 2, 4, dtype=torch.float16)
    buffer = torch.empty(2 * stride + 2, dtype=torch.float16, device=DEVICE)
    far = buffer.as_strided((3, 2), (stride, 1))
    far.copy_(case.x)
    kernels = triton.kernels(case.spline_weight)
    layer = case.layer()
    assert torch.equal(kernels.out(far, None, layer, 0), kernels.out(case.x, None, layer, 0))


@pytest.mark.parametrize("precision, eps", [("high", TF32_EPS), ("medium", BF16_EPS)])
def test_precision_follows_torch(
    precision: str, eps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    case = case_of(90, 5, 12)
    assert (
        triton.kernels(case.spline_weight).precision
        == {"high": "tf32", "medium": "bf16"}[precision]
    )
    compare(case, triton, eps)


@pytest.mark.parametrize(
    "switch, precision",
    [
        ("set_float32_matmul_precision('highest')", "tf32x3"),
        ("set_float32_matmul_precision('high')", "tf32"),
        ("set_float32_matmul_precision('medium')", "bf16"),
        ("backends.cuda.matmul.allow_tf32 = True", "tf32"),
        ("backends.cuda.matmul.fp32_precision = 'tf32'", "tf32"),
        ("backends.cuda.matmul.fp32_precision = 'ieee'", "tf32x3"),
        ("backends.fp32_precision = 'tf32'", "tf32"),
    ],
)
def test_every_switch_of_torch_counts(switch: str, precision: str) -> None:
    # in a process of its own: the switches remember each other
    program = (
        f"import torch; torch.{switch}; from kan_fast.backends import devices; "
        "print(devices.float32_products())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == precision, done.stderr


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast(x_dtype: torch.dtype) -> None:
    case = case_of(90, 5, 12)
    x = case.x.to(x_dtype).requires_grad_()
    parameters = [t.clone().requires_grad_() for t in case.parameters()]
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        y = kan_linear(x, case.knots, *parameters, backend="triton")
    assert y.dtype == torch.bfloat16
    u = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, *parameters], u)
    truth = Case(
        x.detach().double(), *[t.double() for t in (case.knots, *case.parameters())], case.basis
    )
    expected = layer_and_gradients(truth, u.double(), reference.kan_linear)
    for name, result in zip(expected, (y, *found), strict=True):
        t = expected[name]
        assert_within_tolerance(name, result.double(), t, t, GRADIENT_FACTOR, eps=BF16_EPS)
    # the basis sees x in float32, and gradients have the dtype of what they are gradients of
    assert found[0].dtype == x_dtype and found[1].dtype == torch.float32
