"""The C++ tests under the sanitizers, and the shared headers through nvcc."""

from __future__ import annotations

import re
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
    for name in ("test_kernels", "test_device", "test_sparse", "test_group", "test_layouts"):
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


@pytest.fixture(scope="module")
def device_group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/cpp/device_group.cu as a program, and beside it as PTX."""
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not installed")
    folder = tmp_path_factory.mktemp("device_group")
    run(
        "nvcc",
        "-std=c++17",
        "-arch=compute_90a",
        "-code=compute_90a",
        "-cudart=none",
        "--expt-relaxed-constexpr",
        f"-I{ROOT}/kernels/include",
        f"-I{ROOT}/kernels/cuda",
        "--keep",
        "--keep-dir",
        folder,
        ROOT / "tests/cpp/device_group.cu",
        ROOT / "tests/cpp/fake_cudart.cpp",
        "-o",
        folder / "device_group",
    )
    return folder / "device_group"


def ptx_of(program: Path, kernel: str) -> list[str]:
    """The instructions, labels and predicates of a kernel, one a line."""
    text = program.with_suffix(".ptx").read_text()
    (found,) = (part for part in text.split(".entry")[1:] if kernel in part.split("(")[0])
    return [line.strip() for line in found.splitlines() if line.strip()]


def test_a_launch_that_fails_leaves_no_error_to_the_next(device_group: Path) -> None:
    done = subprocess.run([device_group], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_last_block_is_found_between_fences(device_group: Path) -> None:
    """PTX ISA, "Memory Consistency Model": the release pattern is barrier, fence, atomic, and the
    acquire pattern atomic, fence, barrier; fence and atomic of the same thread."""
    order = re.findall(
        r"^(?:@!?%p\d+ )?(bar\.sync|membar\.gl|fence|atom\.global)",
        "\n".join(ptx_of(device_group, "LastAddsUp")),
        re.MULTILINE,
    )
    at = order.index("atom.global")
    assert order.count("atom.global") == 1
    assert order[at - 2 : at + 3] == [
        "bar.sync", "membar.gl", "atom.global", "membar.gl", "bar.sync",
    ], order  # fmt: skip


def test_warps_are_whole_where_wgmma_asks_for_it(device_group: Path) -> None:
    """Between the last place where threads may part and an `.aligned` instruction they meet."""
    whole, seen = False, []
    for line in ptx_of(device_group, "DivergentProducts"):
        if line.startswith(("$L", "@")):
            whole = False
        elif "bar.warp.sync" in line:
            whole = True
        elif found := re.match(r"wgmma\.(fence|commit_group|wait_group)\.sync\.aligned", line):
            assert whole, line
            seen.append(found[1])
    assert seen == ["fence", "commit_group", "wait_group"]
