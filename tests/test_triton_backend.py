"""Around the Triton kernels: who may run, which tile, what is kept, and what the rest of the
package makes of them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from cases import make_case
from judge import layer_and_gradients, native, on, triton

import kan_fast
from kan_fast import envs, machine, reference
from kan_fast.backends import BACKENDS
from kan_fast.backends.planner import choose
from kan_fast.backends.triton import tiles, tuned
from kan_fast.backends.triton.spline import TritonKernels
from kan_fast.cli import main
from kan_fast.cli import search_tiles as tune
from kan_fast.ops import gram
from kan_fast.ops import plan as plans
from kan_fast.spec import Gpu, Machine, Problem, WindowedBasis
from kan_fast.testing import GRADIENT_FACTOR, assert_within_tolerance

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
H100 = Gpu("NVIDIA H100", (9, 0), 132)
WITH_TRITON = Machine("avx2", triton="3.7.1")
CUDA = Problem("cuda", "float32", 3, None, (9, 0))

needs_triton = pytest.mark.skipif(
    machine.facts().triton is None, reason=f"Triton: {machine.facts().triton_error}"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAN_FAST_CACHE_DIR", str(tmp_path))
    tuned.forget()
    yield tmp_path
    tuned.forget()


# who may run


@pytest.mark.parametrize(
    "problem, facts, sentence",
    [
        (
            CUDA,
            Machine("avx2", triton_error="it is not installed"),
            "not available .it is not inst",
        ),
        (Problem("cpu", "float32", 3), WITH_TRITON, "run on cuda tensors, got cpu"),
        (Problem("cuda", "float32", 3, None, (7, 5)), WITH_TRITON, "8.0 or more, got 7.5"),
        (
            Problem("cuda", "float8_e5m2", 3, None, (9, 0)),
            WITH_TRITON,
            "take float32, .* got float8",
        ),
        (Problem("cuda", "float32", 8, None, (9, 0)), WITH_TRITON, "up to spline_order 7"),
        (Problem("cuda", "float32", 3, "torch.export", (9, 0)), WITH_TRITON, "torch.export needs"),
    ],
)
def test_refusals_are_sentences(problem: Problem, facts: Machine, sentence: str) -> None:
    with pytest.raises(kan_fast.errors.BackendUnavailable, match=sentence):
        choose(problem, facts, BACKENDS, "triton")
    assert choose(problem, facts, BACKENDS).backend != "triton"


def test_a_gpu_runs_triton() -> None:
    assert choose(CUDA, WITH_TRITON, BACKENDS).backend == "triton"


def test_the_interpreter_is_for_who_asks() -> None:
    facts = Machine(None, triton="3.7.1", interpreter=True)
    assert choose(Problem("cpu", "float32", 3), facts, BACKENDS).backend == "reference"
    asked = Problem("cpu", "float32", 3, asked=True)
    assert choose(asked, facts, BACKENDS, "triton").backend == "triton"


@pytest.mark.parametrize("missing", ["compiler", "header", "triton"])
def test_what_triton_needs_is_looked_for(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "TRITON_INTERPRET", False)
    if missing == "compiler":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr(machine.shutil, "which", lambda _: None)
        sentence = "needs a C compiler and there is none; install gcc"
    elif missing == "header":
        monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
        sentence = "needs /nowhere/Python.h"
    else:
        monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: None)
        sentence = "not installed; pip install triton"
    version, reason = machine._triton()
    assert version is None and sentence in reason


def test_a_fall_back_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(machine, "facts", lambda: Machine("avx2", triton_error="it is not here"))
    plans._plan.cache_clear()
    with caplog.at_level(logging.WARNING, "kan_fast"):
        for _ in range(3):
            plan = plans._plan("cuda", torch.float32, 3, None, "auto", (9, 0))
    plans._plan.cache_clear()
    assert plan.backend == "reference"
    assert [r.message.count("it is not here") for r in caplog.records] == [1]


@needs_triton
def test_an_error_of_a_kernel_is_not_a_reason_to_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(TritonKernels, "out", broken)
    case = make_case(4, 2, 3).to(DEVICE)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        kan_fast.kan_linear(case.x, case.knots, *case.parameters(), backend="triton")


# what is kept


def shape_of(rows: int = 1000) -> tiles.Shape:
    return tiles.Shape("tf32", rows, 64, 64, 8, 3, H100)


def tile_of(shape: tiles.Shape) -> dict[str, int]:
    return tiles.as_json(tiles.candidates("out", shape)[-1])


def test_a_tuned_tile_is_found_again(cache: Path) -> None:
    assert tuned.store("out", shape_of(), tile_of(shape_of()))
    tuned.forget()
    assert tiles.as_json(tiles.for_out(shape_of())) == tile_of(shape_of())
    # rows count in powers of two
    assert tiles.as_json(tiles.for_out(shape_of(513))) == tile_of(shape_of())
    assert tuned.lookup("out", shape_of(1025), tile_of(shape_of()).keys()) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"KEY": 3}', '{"KEY": {"rows": 5}}'])
def test_a_broken_file_is_no_tile(text: str, cache: Path) -> None:
    file = tuned.path(H100)
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("KEY", tuned.key("out", shape_of())))
    assert tiles.for_out(shape_of()) == tiles.by_rule("out", shape_of())


def test_a_folder_that_cannot_be_written_is_no_error(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "tiles").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "kan_fast"):
        assert not tuned.store("out", shape_of(), tile_of(shape_of()))
    assert "cannot be kept" in caplog.text
    # for this process it holds all the same
    assert tiles.as_json(tiles.for_out(shape_of())) == tile_of(shape_of())


def _store(folder: str, rows: int) -> None:
    os.environ["KAN_FAST_CACHE_DIR"] = folder
    for n in range(20):
        tuned.store("out", shape_of(2 ** (rows + n % 2)), tile_of(shape_of()))


def test_processes_may_write_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_store, args=(str(cache), n)) for n in range(4, 12, 2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
        assert w.exitcode == 0
    # whole files only, nothing left behind
    assert json.loads(tuned.path(H100).read_text())
    assert [f.suffix for f in (cache / "tiles").iterdir()] == [".json"]


@needs_triton
def test_the_search_keeps_the_fastest(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE == "cpu":
        monkeypatch.setattr(machine, "gpu", lambda _: H100)
    taken = iter([9.0, 8.0, 3.0, 5.0] + [6.0] * 100)

    def timer(call) -> float:
        call()
        return next(taken)

    trial = tune.Trial(70, 3, 300)
    found = list(tune.search([trial], torch.device(DEVICE), timer))
    assert [f.kind for f in found] == ["out", "in_weight"]
    shape = tiles.Shape("tf32x3", 70, 3, 300, 8, 3, machine.gpu(torch.device(DEVICE)))
    # the second candidate was the fastest
    assert found[0].tile == tiles.as_json(tiles.candidates("out", shape)[1])
    assert found[0].milliseconds == 3.0 and found[0].rule_milliseconds == 9.0
    tuned.forget()
    assert tiles.as_json(tiles.for_out(shape)) == found[0].tile


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU to tune")
def test_tune_says_why_there_is_nothing_to_tune(capsys: pytest.CaptureFixture) -> None:
    assert main(["tune"]) == 2
    assert "nothing to tune here, the Triton kernels run on cuda tensors" in capsys.readouterr().err


def test_tune_wants_shapes(capsys: pytest.CaptureFixture) -> None:
    assert main(["tune", "3x4"]) == 2
    assert "ROWSxINxOUT" in capsys.readouterr().err


# the rest of the package


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [(3, 4, 4), (3, 4, 9), (1, 30, 20), (5, 2, 40)], ids=str)
def test_gram(sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
    order, grid_size, other = sizes
    case = make_case(700, 3, 1, grid_size, order, "gelu", dtype, knots="per-feature").to(DEVICE)
    other_knots = make_case(1, 3, 1, other, order, dtype=dtype).to(DEVICE).knots
    case.x[5, 1] = 100.0
    knots = (case.knots, other_knots)
    ours = triton.gram(case.x, knots, case.basis, (0, 0), None)
    theirs = gram._by_torch(case.x, knots, case.basis, (0, 0), None)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    cotangent = torch.randn_like(ours)
    for derivatives in [(1, 0), (0, 1)]:
        ours = triton.gram(case.x, knots, case.basis, derivatives, cotangent)
        theirs = gram._by_torch(case.x, knots, case.basis, derivatives, cotangent)
        assert ours.dtype == dtype
        assert_within_tolerance("gram", ours, theirs.double(), theirs, GRADIENT_FACTOR)


@needs_triton
def test_gram_of_nothing() -> None:
    case = make_case(0, 3, 1).to(DEVICE)
    knots = (case.knots, case.knots)
    assert not triton.gram(case.x, knots, case.basis, (0, 0), None).any()
    cotangent = torch.ones(3, 9, 9, dtype=torch.float64, device=DEVICE)
    assert triton.gram(case.x, knots, case.basis, (1, 0), cotangent).shape == (0, 3)


@needs_triton
def test_a_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "BACKEND", "triton")
    model = kan_fast.KAN([2, 5, 1]).double().to(DEVICE)
    x = torch.rand(20, 2, dtype=torch.float64, device=DEVICE, requires_grad=True)

    def laplacian() -> list[torch.Tensor]:
        (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        second = [torch.autograd.grad(g[:, n].sum(), x, create_graph=True)[0][:, n] for n in (0, 1)]
        loss = (second[0] + second[1]).square().mean()
        return list(torch.autograd.grad(loss, list(model.parameters())))

    ours = laplacian()
    monkeypatch.setattr(envs, "BACKEND", "reference")
    for a, b in zip(ours, laplacian(), strict=True):
        torch.testing.assert_close(a, b)


@needs_triton
def test_grid_update_and_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = []
    for backend in ("triton", "reference"):
        monkeypatch.setattr(envs, "BACKEND", backend)
        torch.manual_seed(0)
        layer = kan_fast.KANLinear(3, 4).double().to(DEVICE)
        x = torch.linspace(-0.9, 0.8, 300, dtype=torch.float64, device=DEVICE)
        x = torch.stack([x, x.square(), x.sin()], 1)
        layer.update_grid(x)
        penalty = layer.activation_regularization_loss(x, size="std")
        layers.append((layer(x), penalty))
    for a, b in zip(*layers, strict=True):
        torch.testing.assert_close(a, b)


@needs_triton
def test_compiled_graphs_hold_the_layer() -> None:
    case = make_case(33, 3, 6).to(DEVICE)

    def run(x, *parameters):
        return kan_fast.kan_linear(x, case.knots, *parameters, backend="triton") * 2

    u = torch.randn(33, 6, device=DEVICE)
    leaves = [t.clone().requires_grad_() for t in (case.x, *case.parameters())]
    found = []
    for f in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        y = f(*leaves)
        found.append([y, *torch.autograd.grad(y, leaves, u)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@needs_triton
@pytest.mark.parametrize("product_dtype", [None, torch.bfloat16], ids=str)
def test_the_operator_by_the_book(product_dtype: torch.dtype | None) -> None:
    case = make_case(9, 2, 3).to(DEVICE)
    leaves = [t.clone().requires_grad_() for t in (case.x, *case.parameters())]
    x, *parameters = leaves
    torch.library.opcheck(
        kan_fast.ops.operators.kan_linear_op,
        (x, case.knots, *parameters, 3, "silu", "triton", product_dtype),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
def test_fake_tensors_of_a_gpu_that_is_not_there() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, weight = (torch.empty(shape, device="cuda") for shape in [(5, 3), (4, 3, 8)])
        # no kernel, and nobody asks the GPU for its capability
        assert plans.plan_for(x, weight, 3).backend == "reference"


@needs_triton
def test_a_batch_of_gradients() -> None:
    # torch's older vmap, whose tensors have no address
    case = make_case(12, 2, 3, dtype=torch.float64).to(DEVICE)
    found = []
    for run in (on(triton), reference.kan_linear):
        x = case.x.clone().requires_grad_()
        y = run(x, case.knots, *case.parameters(), case.basis)
        units = torch.eye(y.numel(), device=DEVICE, dtype=y.dtype).reshape(-1, *y.shape)
        found += torch.autograd.grad(y, x, units, is_grads_batched=True)
    torch.testing.assert_close(*found)


@needs_triton
def test_same_numbers_as_the_native_kernels() -> None:
    if machine.facts().extension is None:
        pytest.skip("the native extension is not there to compare with")
    case = make_case(65, 4, 6)
    u = torch.randn(65, 6)
    theirs = layer_and_gradients(case, u, on(native))
    ours = layer_and_gradients(case.to(DEVICE), u.to(DEVICE), on(triton))
    for name, result in ours.items():
        torch.testing.assert_close(result.cpu(), theirs[name], rtol=1e-4, atol=1e-4)


def test_basis_specs_are_shared() -> None:
    assert plans.basis_of(3, "silu") is plans.basis_of(3, "silu") == WindowedBasis(3)
