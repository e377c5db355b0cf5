"""Builds `kan_fast._C` for the GPU that is here; without CUDA kernels where those do not compile.

    python -m gpu_suite.build --facts FILE --folder FOLDER

What setup.py does, by hand: no pip, which may be too old for pyproject.toml, and a failure that
cannot pass for a success. The exit code is 0 only when the CUDA kernels are in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_suite import results

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: object) -> bool:
    print("+", *command, flush=True)
    return subprocess.run([str(word) for word in command]).returncode == 0


def build(folder: Path, *options: str) -> bool:
    """Whether CMake and ninja made the module; all that compiles is kept for a second try."""
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True
    )
    if pybind11.returncode:
        print(pybind11.stderr, "pybind11 is not installed")
        return False
    configured = _run(
        "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder,
        # the CPU kernels are not what is measured, and optimizing them takes minutes
        "-DCMAKE_BUILD_TYPE=Suite", "-DCMAKE_CXX_FLAGS_SUITE=-O1", "-DCMAKE_CUDA_FLAGS_SUITE=-O3",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.stdout.strip()}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={folder / 'module'}",
        # what only a CPU needs in more than one instruction set
        "-DKAN_FAST_X86_KERNELS=OFF", *options,
    )  # fmt: skip
    return configured and _run("cmake", "--build", folder, "--", "-k", "0")


def install(folder: Path) -> bool:
    """Whether the module loads; only then it takes the place of an older one."""
    (made,) = (folder / "module").glob("_C*.so")
    check = (
        "import torch, importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('kan_fast._C', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.build_info(), 'CUDA kernels:', module.has_cuda())\n"
    )
    if not _run(sys.executable, "-c", check, made):
        return False
    shutil.move(made, ROOT / "kan_fast" / made.name)
    return True


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    try:
        capability = json.loads(args.facts.read_text())["capability"]
        architecture = "{}{}-real".format(*capability)
    except (OSError, ValueError, KeyError):
        architecture = "native"
    if any((ROOT / "kan_fast").glob("_C*.so")):
        print("an older kan_fast._C is here and will be replaced")
    cuda = f"-DKAN_FAST_CUDA_ARCHITECTURES={architecture}"
    if build(args.folder, "-DKAN_FAST_CUDA=ON", cuda) and install(args.folder):
        print(f"with CUDA kernels for {architecture}")
        return 0
    results.say("FAIL", "build: the CUDA kernels; now without them, for the tests of Triton's")
    if build(args.folder, "-DKAN_FAST_CUDA=OFF") and install(args.folder):
        print("without CUDA kernels, which do not compile")
    else:
        print("not even without CUDA kernels")
    return 1


if __name__ == "__main__":
    sys.exit(main())
