"""Notes what the launches of tests and benches would have Triton compile, and compiles nothing.

    python -m gpu_suite.collect ratios|bench     (tests: a plugin of pytest)

The launches are those of the real tests and benches, on CPU tensors, with the tiles of the GPU that
`facts` has found. What they compute is garbage, so comparisons say yes.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

#: files: what is known of the GPU; where the notes go
FACTS, FILE = "KAN_FAST_SUITE_FACTS", "KAN_FAST_SUITE_LAUNCHES"
KINDS = ("core", "ratios", "tests", "bench")
_TESTS = ("tests/test_triton.py", "tests/test_device_kernels.py", "tests/test_triton_backend.py")


def command(kind: str, share: int, shares: int) -> list[str]:
    """What collects a kind of launches."""
    files = {"core": ("tests/test_gpu_core.py",), "tests": _TESTS}.get(kind)
    if files is None:
        return [sys.executable, "-m", "gpu_suite.collect", kind]
    return [
        sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:xdist", "-p",
        "no:cacheprovider", "-p", "gpu_suite.collect", "-W", "ignore:kan_fast:RuntimeWarning",
        "--tb=line", f"--shard={share}/{shares}",
        *files, *(["-k", "not cuda"] if kind == "tests" else []),
    ]  # fmt: skip


class Driver:
    """What Triton asks of a driver before it launches: nothing that needs a GPU."""

    def __init__(self, capability: list[int]) -> None:
        from triton.backends.compiler import GPUTarget

        self._target = GPUTarget("cuda", capability[0] * 10 + capability[1], 32)
        self.get_current_target = lambda: self._target
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device=None: 0


def pretend(facts: dict[str, Any]) -> None:
    """Makes Triton and kan_fast take this process for one with that GPU."""
    from triton.runtime.driver import driver

    from kan_fast import machine
    from kan_fast.spec import Gpu

    driver.set_active(Driver(facts["capability"]))
    found = Gpu(facts["name"], tuple(facts["capability"]), facts["multiprocessors"])
    machine.gpu = functools.cache(lambda device: found)


def kernels() -> dict[str, Any]:
    """Name to kernel, of all that kan_fast launches."""
    from triton.runtime.jit import JITFunction

    from kan_fast.backends.triton.arguments import jit

    return {n: k for n, k in vars(jit()).items() if isinstance(k, JITFunction)}


def as_line(kernel: str, launch: dict[str, Any]) -> str:
    """What Triton's hook says of a launch. Triton's own words for it
    (`JITFunction.preload`) take a string that is the name of a dtype for that dtype."""
    (attributes,) = launch["configs"]
    return json.dumps(
        {
            "kernel": kernel,
            "signature": launch["signature"],
            "constants": list(launch["constants"].items()),
            "attributes": list(attributes.items()),
            "options": json.loads(launch["specialization_data"])["options"],
        },
        default=lambda dtype: {"dtype": str(dtype)},
    )


def compile_line(line: str, known: dict[str, Any]) -> Any:
    """Compiles what a launch would, under the same key of Triton's cache."""
    import triton
    import triton.language as tl
    from triton.compiler import ASTSource
    from triton.runtime.driver import driver

    job = json.loads(line, object_hook=lambda d: tl.dtype(d["dtype"]) if "dtype" in d else d)
    source = ASTSource(
        fn=known[job["kernel"]],
        signature=job["signature"],
        constexprs={tuple(path): value for path, value in job["constants"]},
        attrs={tuple(path): value for path, value in job["attributes"]},
    )
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in job["options"].items()}
    compiled = triton.compile(source, target=driver.active.get_current_target(), options=options)
    try:  # what calls the kernel is compiled by a C compiler, once for each signature
        from triton.backends.nvidia.driver import CudaLauncher

        CudaLauncher(compiled.src, compiled.metadata)
    except Exception as error:  # without NVIDIA's driver, which it is linked with
        print(f"no launcher: {type(error).__name__}: {error}".split("\n")[0], flush=True)
    return compiled


def note(facts: dict[str, Any], file: Path) -> None:
    """From now on every launch is noted in a file and not made."""
    import torch
    from triton import knobs

    import kan_fast.testing
    from kan_fast.backends.triton.backend import Triton

    pretend(facts)
    Triton.why_not = lambda *_: None
    kernels()
    noted: set[str] = set()

    def hook(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        line = as_line(fn.name, compile)
        if line not in noted:
            noted.add(line)
            with file.open("a") as to:
                to.write(line + "\n")
        return True  # what Triton takes for "done", so that nothing is launched

    knobs.runtime.jit_cache_hook = hook
    kan_fast.testing.assert_within_tolerance = lambda *_, **__: None
    torch.equal = lambda *_: True
    torch.testing.assert_close = lambda *_, **__: None


def _step(shape: Any, precision: str) -> None:
    """A step and a forward of a model of `bench/gpu.py`."""
    import gpu
    import torch

    import kan_fast

    with gpu.precision(precision):
        model = kan_fast.KAN(shape.widths, shape.grid_size, shape.spline_order)
        # alignments do not depend on the number of rows, splits of sums and tiles do
        x = torch.empty(shape.rows, shape.widths[0]).requires_grad_()
        gpu.timing.step(model, x)
        gpu.timing.forward(model, x)


def ratios() -> None:
    """Every row of `bench/gpu.py --core`."""
    import gpu
    import torch

    import kan_fast

    for shape in gpu.CORE:
        _step(shape, "highest")
    _step(gpu.CORE[1], "bfloat16")
    points = torch.empty(1000, 2)
    gpu.pinn.step(kan_fast.KAN((2, 8, 8, 8, 2), gpu.pinn.GRID_SIZE), points)


def benches() -> None:
    """The other rows of `bench/gpu.py`, and every kernel's layers."""
    import gpu
    import gpu_kernels
    from shapes import GPU_WIDE

    for precision in gpu.PRECISIONS:
        for shape in dict.fromkeys((*gpu.CORE, *gpu.QUICK, *gpu.GPU)):
            if precision == "highest" or shape in (*gpu.CORE, *gpu.QUICK):
                _step(shape, precision)
        with gpu.precision(precision):
            for layer in GPU_WIDE:
                for entrants in gpu_kernels.runs(layer, precision).values():
                    entrants["triton"]()


def _begin() -> None:
    note(json.loads(Path(os.environ[FACTS]).read_text()), Path(os.environ[FILE]))


if "pytest" in sys.modules and FILE in os.environ:
    _begin()  # before tests import what is replaced
elif __name__ == "__main__":
    from gpu_suite import collect

    collect._begin()
    from kan_fast import envs

    envs.BACKEND = "triton"
    {"ratios": collect.ratios, "bench": collect.benches}[sys.argv[1]]()
