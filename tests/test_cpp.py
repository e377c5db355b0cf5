"""The C++ tests under the sanitizers, and the shared headers through nvcc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cases import instruction_sets

ROOT = Path(__file__).parent.parent


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("ninja")), reason="cmake or ninja is not installed"
)
def test_kernels_are_right_and_clean_under_the_sanitizers(tmp_path: Path) -> None:
    options = ["-DKAN_FAST_CXX_TESTS=ON", "-DKAN_FAST_SANITIZE=ON", "-DKAN_FAST_CUDA=OFF"]
    # what this CPU cannot run takes a minute to compile
    runs = [name for name in ("avx2", "avx512") if name in instruction_sets()]
    options.append(f"-DKAN_FAST_X86_KERNELS={';'.join(runs) or 'OFF'}")
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", tmp_path, *options)
    run("cmake", "--build", tmp_path)
    for name in ("test_kernels", "test_device", "test_sparse"):
        printed = run(tmp_path / name)
        assert printed.startswith("0 failures"), printed


@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
def test_shared_headers_compile_for_the_gpu(tmp_path: Path) -> None:
    run(
        "nvcc",
        "-std=c++17",
        "-arch=sm_80",
        "-Werror=all-warnings",
        f"-I{ROOT}/kernels/include",
        "-c",
        ROOT / "tests/cpp/device_math.cu",
        "-o",
        tmp_path / "device_math.o",
    )
