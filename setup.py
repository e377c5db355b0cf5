"""Builds `kan_fast._C` with CMake; without a compiler the package installs all the same."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeExtension(Extension):
    """An extension whose sources are CMakeLists.txt's business."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[], py_limited_api=False)


class CMakeBuild(build_ext):
    """Runs CMake and ninja. A failure leaves the package at reference speed and says so.

    KAN_FAST_REQUIRE_EXTENSION=1 makes a failure an error, as in CI and when building wheels;
    KAN_FAST_BUILD_DIR names a folder that keeps the objects for the next build.
    """

    def build_extension(self, extension: Extension) -> None:
        try:
            self._cmake(extension)
        except (OSError, ImportError, subprocess.CalledProcessError) as error:
            if os.environ.get("KAN_FAST_REQUIRE_EXTENSION") == "1":
                raise
            print(
                f"kan_fast: the native kernels were not built ({error}). The package works at the "
                "speed of plain torch; install a C++17 compiler (g++ or clang++) and reinstall.",
                file=sys.stderr,
            )

    def _cmake(self, extension: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        kept = os.environ.get("KAN_FAST_BUILD_DIR")
        build = Path(kept or Path(self.build_temp) / extension.name).resolve()
        build.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-DCMAKE_BUILD_TYPE=Release",
            # a kept folder may be that of another Python, of an environment that is gone, and
            # built with other options
            *("-U", "*Python*", "-U", "*PYTHON*", "-U", "CMAKE_MAKE_PROGRAM", "-U", "KAN_FAST_*"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)

    def get_source_files(self) -> list[str]:
        return []

    def copy_extensions_to_source(self) -> None:
        # nothing to copy when the build fell back
        self.extensions = [
            e
            for e in self.extensions
            if (
                Path(self.build_lib) / self.get_ext_filename(self.get_ext_fullname(e.name))
            ).exists()
        ]
        super().copy_extensions_to_source()

    def get_outputs(self) -> list[str]:
        return [path for path in super().get_outputs() if Path(path).exists()]


setup(ext_modules=[CMakeExtension("kan_fast._C")], cmdclass={"build_ext": CMakeBuild})
