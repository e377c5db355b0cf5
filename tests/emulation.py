"""The CUDA kernels for the host, thread by thread: a library that tests build, once for a tree."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from kan_fast import machine

ROOT = Path(__file__).parent.parent


def _state_of_sources() -> str:
    """Changes with every file that the library is built from."""
    files = [
        ROOT / name for name in ("CMakeLists.txt", "kernels/cpu/entry.h", "tests/cpp/emulation.cpp")
    ]
    for folder in ("kernels/cuda", "kernels/include", "csrc"):
        files += (p for p in (ROOT / folder).rglob("*") if p.is_file())
    state = hashlib.sha256()
    for path in sorted(files):
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout.strip()


def library() -> Path:
    """The library for this Python, built when its sources have changed; processes that ask at the
    same time wait for the first."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    folder = ROOT / "build" / f"emulation{suffix.removesuffix('.so')}"
    folder.mkdir(parents=True, exist_ok=True)
    made, stamp = folder / f"kan_emulation{suffix}", folder / "state"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = _state_of_sources()
        if made.exists() and stamp.exists() and stamp.read_text() == state:
            return made
        stamp.unlink(missing_ok=True)
        pybind11 = _run(sys.executable, "-m", "pybind11", "--cmakedir")
        _run(
            "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
            # another environment may have built it before
            "-U", "*Python*", "-U", "*PYTHON*", "-U", "CMAKE_MAKE_PROGRAM",
            "-DKAN_FAST_HOST_EMULATION=ON", "-DKAN_FAST_CUDA=OFF",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}",
        )  # fmt: skip
        _run("cmake", "--build", folder, "--target", "kan_emulation")
        stamp.write_text(state)
    return made


def lend() -> Path:
    """Has this process run them in the place of those for a device."""
    made = library()
    machine.lend_cuda_kernels(machine.extension(), str(made))
    return made
