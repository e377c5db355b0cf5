"""What a step costs besides time: saved bytes, operators, threads pools, imports."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kan_fast


def run_python(code: str, **env: str) -> str:
    """Output of a fresh interpreter, started away from the source tree's folder."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=Path(sys.prefix),
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Count(TorchDispatchMode):
    """Counts operators that do work: views and detaches move nothing."""

    FREE = ("view", "detach", "expand", "alias", "t.", "transpose", "_unsafe_view")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        if not name.startswith(self.FREE):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def saved_bytes(model, x: torch.Tensor, skip: list[torch.Tensor]) -> int:
    """Bytes kept for the backward, without the tensors in `skip`."""
    known = {t.data_ptr() for t in skip}
    kept: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        if t.data_ptr() not in known:
            kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(x)
    return sum(kept.values())


@pytest.mark.parametrize("grid_size", [5, 50])
def test_the_input_is_the_only_activation_saved(grid_size: int) -> None:
    model = kan_fast.KAN([16, 32, 8], grid_size=grid_size)
    x = torch.rand(100, 16, requires_grad=True)
    parameters = [*model.parameters(), *model.buffers()]
    assert saved_bytes(model, x, [*parameters, x]) == 100 * 32 * 4
    layer = model.layers[0]
    assert saved_bytes(layer, x, parameters) == x.nbytes


def test_a_layer_is_one_call_each_way() -> None:
    layer = kan_fast.KANLinear(16, 32)
    x = torch.rand(100, 16, requires_grad=True)
    with Count() as forward:
        y = layer(x)
    u = torch.rand_like(y)
    with Count() as backward:
        y.backward(u)
    # nothing but the memory of the results
    assert forward.names == ["new_empty.default"], forward.names
    assert backward.names == ["empty_like.default"] * 4, backward.names


def test_no_temporary_of_the_size_of_the_basis() -> None:
    # peak memory of the process grows by far less than rows x in_features x num_basis floats
    grown = run_python("""
        import resource, torch, kan_fast
        layer = kan_fast.KANLinear(256, 16, grid_size=60)
        layer(torch.rand(8, 256, requires_grad=True)).sum().backward()
        x = torch.rand(20000, 256, requires_grad=True)
        x.grad = torch.zeros_like(x)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        layer(x).sum().backward()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    basis = 20000 * 256 * 63 * 4
    assert int(grown) < basis / 8


def test_no_openmp_runtime_is_added() -> None:
    found = run_python("""
        import re, torch
        def runtimes():
            maps = open("/proc/self/maps").read()
            return sorted(set(re.findall(r"\\S*lib(?:gomp|omp|iomp5)[^\\s/]*\\.so\\S*", maps)))
        before = runtimes()
        import kan_fast
        torch.set_num_threads(2)
        kan_fast.KANLinear(64, 64)(torch.rand(512, 64)).sum().backward()
        print(before == runtimes(), len(before))
    """)
    assert found == "True 1"


def test_threads_follow_torch() -> None:
    found = run_python("""
        import torch, kan_fast
        from kan_fast import machine
        torch.set_num_threads(3)
        print(machine.extension().max_threads())
        torch.set_num_threads(1)
        print(machine.extension().max_threads())
    """)
    assert found.split() == ["3", "1"]


def test_import_needs_no_compiler_gpu_or_triton() -> None:
    code = """
        import sys
        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("triton", "sklearn", "matplotlib", "rich"):
                    raise ImportError(name)
        sys.meta_path.insert(0, Hidden())
        import kan_fast, torch
        print(tuple(kan_fast.KANLinear(3, 2)(torch.rand(4, 3)).shape))
        print(*[m for m in ("triton", "sklearn", "matplotlib", "rich") if m in sys.modules])
    """
    assert run_python(code, PATH="", CUDA_VISIBLE_DEVICES="").split("\n")[0] == "(4, 2)"


def test_without_the_extension_it_works_and_says_so_once() -> None:
    code = """
        import sys, warnings
        sys.modules["kan_fast._C"] = None
        import torch, kan_fast
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer = kan_fast.KANLinear(3, 2)
            x = torch.rand(4, 3, dtype=torch.float32, requires_grad=True)
            layer(x).sum().backward()
            layer.double()(x.double())
        print(len([w for w in caught if "no native kernels" in str(w.message)]))
        print(kan_fast.explain(layer, x.double()))
    """
    lines = run_python(code).splitlines()
    assert lines[0] == "1"
    assert "reference" in lines[1] and "the native extension is not available" in lines[2]


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "nonsense"])
def test_the_instruction_set_can_be_forced(isa: str) -> None:
    from kan_fast import machine

    chosen = run_python(
        "import kan_fast; from kan_fast import machine; print(machine.facts().extension)",
        KAN_FAST_ISA=isa,
    )
    extension = machine.extension()
    supported = extension.set_isa(isa)
    extension.set_isa(machine.facts().extension)
    assert chosen == (isa if supported else machine.facts().extension)


def test_two_threads_may_call_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    layers = [kan_fast.KANLinear(30, 40) for _ in range(4)]
    x = torch.rand(300, 30)
    expected = [layer(x) for layer in layers]

    def work(n: int) -> bool:
        return torch.equal(layers[n % 4](x), expected[n % 4])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


def test_few_inputs_and_many_rows_split_the_rows() -> None:
    # more threads than inputs: partial sums are reduced in a fixed order
    code = """
        import torch, kan_fast
        torch.manual_seed(0)
        layer = kan_fast.KANLinear(1, 8)
        x = torch.rand(20000, 1, requires_grad=True)
        grads = []
        for threads in (1, 4, 4, 7):
            torch.set_num_threads(threads)
            layer.zero_grad()
            layer(x).square().sum().backward()
            grads.append([p.grad.clone() for p in layer.parameters()])
        print(all(torch.equal(a, b) for a, b in zip(grads[1], grads[2])))
        for other in grads[1:]:
            for a, b in zip(other, grads[0]):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    """
    assert run_python(code) == "True"
