"""Gaussians and Chebyshev polynomials against the oracle, on every backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor

import kan_fast
from kan_fast import reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.layer import Layer
from kan_fast.errors import BackendUnavailable, DerivativeError, DtypeError, ShapeError
from kan_fast.ops.full_basis import activation_linear, chebyshev_linear, gaussian_rbf_linear
from kan_fast.spec import FullBasis
from kan_fast.testing import GRADIENT_FACTOR, VALUE_FACTOR, assert_within_tolerance

FAMILIES = {
    "gaussian": FullBasis("gaussian_rbf", 8, 4 / 7),
    "gaussian of three": FullBasis("gaussian_rbf", 3, 1.3),
    "chebyshev": FullBasis("chebyshev", 9),
    "chebyshev of one": FullBasis("chebyshev", 1),
    "silu": FullBasis("activation", 1, activation="silu"),
}
#: rows, inputs, outputs: ones, odd ones, one above a tile of rows, of outputs and of inputs
SIZES = [(1, 1, 1), (7, 3, 5), (65, 2, 13), (130, 17, 6), (600, 5, 2), (33, 70, 9)]


def centers_of(basis: FullBasis, dtype: torch.dtype) -> Tensor | None:
    if basis.family != "gaussian_rbf":
        return None
    # not evenly spaced: any are allowed
    return torch.linspace(-1.5, 2, basis.num_basis, dtype=dtype).sinh()


def tensors(
    basis: FullBasis, rows: int, inputs: int, outputs: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(rows, inputs, dtype=torch.float64)
    x = torch.tanh(x) if basis.family == "chebyshev" else x
    weight = torch.randn(outputs, inputs, basis.num_basis, dtype=torch.float64)
    u = torch.randn(rows, outputs, dtype=torch.float64)
    return x.to(dtype), weight.to(dtype), u.to(dtype)


def contractions(x: Tensor, v: Tensor, u: Tensor, weight: Tensor, basis: FullBasis, d: int):
    phi = reference.full_features(x, centers_of(basis, x.dtype), basis, d)
    return {
        "out": reference.contract_out(phi, weight, v),
        "in": reference.contract_in(phi, weight, u),
        "weight": reference.contract_weight(phi, u, v),
    }


def compare(basis: FullBasis, size: tuple, dtype: torch.dtype, d: int, backend: str) -> None:
    """The three contractions of one derivative, and the fused pass, by the tolerance rule."""
    x, weight, u = tensors(basis, *size, dtype)
    v = torch.randn_like(x)
    kernels = BACKENDS[backend].full_kernels(weight)
    layer = Layer(centers_of(basis, dtype), weight, None, None, basis)
    need = (True, True, False, False)
    z, both = kernels.in_weight(x, u, v, layer, d, d, need)[:2]
    shape = weight.shape
    ours = {
        "out": kernels.out(x, v, layer, d),
        "in": z,
        "weight": kernels.weight(x, u, v, layer[0], shape, False, basis, d)[0],
    }
    assert torch.equal(both, ours["weight"])
    wide = [t.double() for t in (x, v, u, weight)]
    truth, yardstick = contractions(*wide, basis, d), contractions(x, v, u, weight, basis, d)
    factor = GRADIENT_FACTOR if d else VALUE_FACTOR
    # where terms cancel, a luckier sum of as many terms is no better a method
    terms = contractions(*[t.abs() for t in wide], basis, d)
    for name, result in ours.items():
        eps = torch.finfo(dtype).eps
        doubt = 4 * eps * float(terms[name].abs().max()) if truth[name].numel() < 100 else 0.0
        doubt += 2e-15 * (1 + d) ** 2 * float(terms[name].abs().max())
        assert_within_tolerance(name, result, truth[name], yardstick[name], factor, doubt)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("basis", FAMILIES.values(), ids=FAMILIES.keys())
def test_contractions_on_every_instruction_set(isa, basis, size, dtype) -> None:
    for d in (0, 1, 3):
        compare(basis, size, dtype, d, "native")


@pytest.mark.parametrize("basis", FAMILIES.values(), ids=FAMILIES.keys())
def test_contractions_by_triton(basis: FullBasis) -> None:
    try:
        x = torch.ones(2, 2)
        gaussian_rbf_linear(x, x[0], torch.ones(1, 2, 2), 1.0, backend="triton")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    for size, dtype in itertools.product(((7, 3, 5), (40, 2, 13)), (torch.float32, torch.float64)):
        for d in (0, 2):
            compare(basis, size, dtype, d, "triton")


def test_blocks_of_rows_and_inputs_by_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    from kan_fast.backends.triton import full_basis, full_basis_values

    monkeypatch.setattr(full_basis_values, "BLOCK", 64)
    monkeypatch.setattr(full_basis, "MOST_ROWS", 4)
    test_contractions_by_triton(FAMILIES["gaussian of three"])


def layer(
    basis: FullBasis, backend: str = "auto", rounded: torch.dtype = torch.float64
) -> Callable[[Tensor, Tensor], Tensor]:
    if basis.family == "chebyshev":
        return lambda x, w: chebyshev_linear(x, w, backend=backend)
    if basis.family == "activation":
        return lambda x, w: activation_linear(x, w[..., 0], basis.activation, backend=backend)
    return lambda x, w: gaussian_rbf_linear(
        x, centers_of(basis, rounded).to(x.dtype), w, basis.width, backend=backend
    )


@pytest.mark.parametrize("basis", FAMILIES.values(), ids=FAMILIES.keys())
def test_gradcheck_of_every_order_and_transforms(basis: FullBasis) -> None:
    x, weight, u = tensors(basis, 4, 3, 2, torch.float64)
    f = layer(basis)
    x.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(f, (x, weight), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, (x, weight))
    third = lambda x: torch.autograd.grad(  # noqa: E731
        torch.autograd.grad(f(x, weight).sum(), x, create_graph=True)[0].sum(), x, create_graph=True
    )[0]
    assert torch.autograd.gradgradcheck(third, x)
    x, weight = x.detach(), weight.detach()
    oracle = layer(basis, "reference")
    for transform in (torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        expected = transform(oracle)(x, weight)
        torch.testing.assert_close(transform(f)(x, weight), expected)
    many = torch.stack([x, 2 * x])
    expected = torch.func.vmap(oracle, (0, None))(many, weight)
    torch.testing.assert_close(torch.func.vmap(f, (0, None))(many, weight), expected)
    _, ours = torch.func.jvp(f, (x, weight), (u[:, :1].expand_as(x), weight))
    _, theirs = torch.func.jvp(oracle, (x, weight), (u[:, :1].expand_as(x), weight))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("basis", FAMILIES.values(), ids=FAMILIES.keys())
def test_strides_shapes_halves_and_what_is_not_finite(basis: FullBasis) -> None:
    x, weight, _ = tensors(basis, 12, 4, 3, torch.float32)
    f = layer(basis)
    y = f(x, weight)
    torch.testing.assert_close(f(x.t().contiguous().t(), weight), y)
    torch.testing.assert_close(
        f(x.repeat(1, 2)[:, ::2][:, :4], weight), f(x.repeat(1, 2)[:, ::2][:, :4].clone(), weight)
    )
    strided = weight.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(f(x, strided), y)
    torch.testing.assert_close(f(x.view(2, 3, 2, 4), weight).flatten(0, 2), y)
    torch.testing.assert_close(f(x[0], weight), y[0])
    for empty in (x[:0], x.view(2, 6, 4)[:, :0]):
        assert f(empty, weight).shape == (*empty.shape[:-1], 3)
    assert f(x[:, :0], weight[:, :0]).eq(0).all() and f(x, weight[:0]).shape == (12, 0)
    for half in (torch.bfloat16, torch.float16):
        found = f(x.to(half), weight.to(half))
        assert found.dtype is half
        # the centers of a layer are rounded with it
        wide = layer(basis, rounded=half)
        expected = wide(x.to(half).float(), weight.to(half).float()).to(half)
        assert torch.equal(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert f(x, weight).dtype is torch.bfloat16
    x[3, 1] = torch.nan
    found = f(x, weight)
    rows = torch.arange(12) != 3
    torch.testing.assert_close(found[rows], y[rows])
    assert found[3].isnan().all()


def test_gradients_of_strided_cotangents_and_no_rows() -> None:
    basis = FAMILIES["gaussian"]
    x, weight, u = tensors(basis, 9, 4, 3, torch.float64)
    f, x, weight = layer(basis), x.requires_grad_(), weight.requires_grad_()
    plain = torch.autograd.grad(f(x, weight), (x, weight), u)
    turned = torch.autograd.grad(f(x, weight), (x, weight), u.t().contiguous().t())
    ones = torch.autograd.grad(f(x, weight).sum(), (x, weight))
    torch.testing.assert_close(turned, plain)
    torch.testing.assert_close(
        ones, torch.autograd.grad(f(x, weight), (x, weight), torch.ones_like(u))
    )
    none = torch.autograd.grad(f(x[:0], weight).sum(), (x, weight))
    assert none[0].eq(0).all() and none[1].eq(0).all()


def test_many_threads_split_rows_of_few_inputs_deterministically() -> None:
    basis = FAMILIES["chebyshev"]
    x, weight, u = tensors(basis, 5000, 1, 3, torch.float64)
    threads = torch.get_num_threads()
    found = []
    try:
        for n in (1, 4, 4):
            torch.set_num_threads(n)
            kernels = BACKENDS["native"].full_kernels(weight)
            found.append(
                kernels.in_weight(
                    x,
                    u,
                    None,
                    Layer(None, weight, None, None, basis),
                    1,
                    0,
                    (True, True, False, False),
                )[:2]
            )
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(found[1], found[2], strict=True):
        assert torch.equal(a, b)


def test_what_does_not_fit_is_refused() -> None:
    x, weight = torch.zeros(2, 3), torch.zeros(4, 3, 5)
    with pytest.raises(ShapeError, match=r"\[out_features, in_features, num_basis\], got \[4, 3\]"):
        chebyshev_linear(x, weight[..., 0])
    with pytest.raises(ShapeError, match=r"in_features=3\], got \[2, 2\]"):
        chebyshev_linear(x[:, :2], weight)
    with pytest.raises(ShapeError, match=r"\[num_basis=5\]"):
        gaussian_rbf_linear(x, torch.zeros(4), weight, 1.0)
    with pytest.raises(DtypeError, match="same dtype"):
        chebyshev_linear(x.double(), weight)
    with pytest.raises(DtypeError, match="floating-point"):
        chebyshev_linear(x.long(), weight)
    with pytest.raises(DtypeError, match="must not require a gradient"):
        gaussian_rbf_linear(x, torch.zeros(5, requires_grad=True), weight, 1.0)
    with pytest.raises(ValueError, match="width must be above 0"):
        gaussian_rbf_linear(x, torch.zeros(5), weight, 0.0)
    with pytest.raises(ValueError, match="activation must be one of silu"):
        activation_linear(x, weight[..., 0], "swish")
    with pytest.raises(BackendUnavailable, match="native was asked for"):
        chebyshev_linear(x.to("meta"), weight.to("meta"), backend="native")


def test_a_sixth_derivative_raises() -> None:
    x = torch.rand(2, 1, dtype=torch.float64, requires_grad=True)
    y = gaussian_rbf_linear(x, x.detach()[0], torch.ones(1, 1, 1, dtype=torch.float64), 1.0)
    for _ in range(5):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(DerivativeError, match="up to order 5"):
        torch.autograd.grad(y.sum(), x)


@pytest.mark.parametrize("options", [{}, {"base": False}, {"layer_norm": False, "num_basis": 5}])
def test_gaussian_layers(options: dict) -> None:
    layer = kan_fast.GaussianKANLinear(6, 5, dtype=torch.float64, **options)
    x = torch.randn(20, 6, dtype=torch.float64, requires_grad=True)

    def plain(x: Tensor) -> Tensor:
        normed = x if layer.layernorm is None else layer.layernorm(x)
        phi = reference.gaussian_rbf_basis(normed, layer.rbf.grid, layer.rbf.denominator)
        y = layer.spline_linear(phi.flatten(-2))
        return y if layer.base_linear is None else y + layer.base_linear(layer.base_activation(x))

    found = []
    for f in (layer, plain):
        leaves = [x, *[p for p in layer.parameters() if p.requires_grad]]
        first = torch.autograd.grad(f(x).sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        flat = torch.autograd.grad(f(x).sin().sum(), leaves)
        found.append([f(x), *first, *second, *flat])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert layer(x.view(4, 5, 6)).shape == (4, 5, 5)
    jacobians = [torch.func.vmap(torch.func.jacrev(f))(x.detach()) for f in (layer, plain)]
    torch.testing.assert_close(*jacobians)
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(x), found[0][0])
    again = kan_fast.GaussianKANLinear(6, 5, dtype=torch.float64, **options)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), found[0][0])


def test_layers_without_outputs_or_with_pruned_weights() -> None:
    x = torch.randn(4, 3)
    assert kan_fast.GaussianKANLinear(3, 0)(x).shape == (4, 0)
    assert kan_fast.ChebyshevKANLinear(0, 2)(x[:, :0]).eq(0).all()
    layer = kan_fast.GaussianKANLinear(3, 2)
    torch.nn.utils.prune.l1_unstructured(layer.spline_linear, "weight", amount=0.5)
    zeros = layer.spline_linear.weight == 0
    assert zeros.sum() == zeros.numel() // 2
    layer(x).sum().backward()
    assert layer.spline_linear.weight_orig.grad[zeros].eq(0).all()


def test_chebyshev_layers() -> None:
    layer = kan_fast.ChebyshevKANLinear(6, 5, degree=3, dtype=torch.float64)
    x = torch.randn(20, 6, dtype=torch.float64)
    basis = reference.chebyshev_basis(torch.tanh(x), 4)
    expected = torch.einsum("rig,oig->ro", basis, layer.weight)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x), expected)
    with pytest.raises(ShapeError, match="must not be negative"):
        kan_fast.ChebyshevKANLinear(2, 3, degree=-1)
    with pytest.raises(ShapeError, match="num_basis 2"):
        kan_fast.GaussianKANLinear(2, 3, num_basis=1)


def test_polynomials_are_those_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    t = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
    for d in range(6):
        for n in range(9):
            series = numpy.polynomial.Chebyshev.basis(n).deriv(d) if d else None
            series = series or numpy.polynomial.Chebyshev.basis(n)
            expected = torch.from_numpy(series(t.numpy()))
            found = reference.chebyshev_basis(t, 9, d)[:, n]
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-8)


def test_gaussians_far_away_are_zero_not_subnormal(isa) -> None:
    # s^2 on both sides of where they become zero, 69.3, and where its square overflows
    x = torch.cat([torch.linspace(60, 110, 500).sqrt(), torch.tensor([1e3, 1e25])])[:, None]
    y = gaussian_rbf_linear(x, torch.zeros(1), torch.ones(1, 1, 1), 1.0, backend="native")
    least = 2.0**-100
    assert bool(((y == 0) | (y >= 0.99 * least)).all())
    truth = torch.exp(-(x.double() ** 2))
    # s^2 in float32 is off by half an eps of some hundred
    assert bool(((y.double() - truth).abs() <= 2e-5 * truth + 1.01 * least * (y == 0)).all())
