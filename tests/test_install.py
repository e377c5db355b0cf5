"""What is handed out: a source archive and a wheel, installed where no compiler is found."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from test_docs import HAVE, ROOT, blocks

#: one process for all of them: they share an archive and a wheel, which take minutes to make
pytestmark = pytest.mark.xdist_group("install")


def run(*command: object, **environment: str) -> subprocess.CompletedProcess:
    ours = ("KAN_FAST_REQUIRE_EXTENSION", "KAN_FAST_BUILD_DIR", "CMAKE_ARGS")
    env = {k: v for k, v in os.environ.items() if k not in (*ours, "PYTHONPATH", "PIP_QUIET")}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**env, **environment},
        cwd=ROOT.parent,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    # from a copy: tests that run beside this one make and remove files in the tree
    passing = shutil.ignore_patterns(".*", "*.so", "__pycache__", "*.egg-info", "build", "*_output")
    source = shutil.copytree(ROOT, folder / "source", ignore=passing)
    done = run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, source)
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = folder.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    done = run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", sdist.parent, sdist,
        # what is handed out is optimized and has more instruction sets; this is about its parts
        CMAKE_ARGS="-DKAN_FAST_CUDA=OFF -DKAN_FAST_X86_KERNELS=OFF -DCMAKE_BUILD_TYPE=Debug",
        KAN_FAST_REQUIRE_EXTENSION="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = sdist.parent.glob("*.whl")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The Python of a new environment, which has torch and the like but not this package."""
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "venv/lib" / version / "site-packages"
    # only folders that Python itself finds read .pth files, so an editable installation stays out
    (site / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "venv/bin/python"


def test_without_a_compiler_the_source_installs_and_says_so(sdist: Path, fresh: Path) -> None:
    none = {"CXX": "/nonexistent/c++"}
    install = (fresh, "-m", "pip", "install", "-v", "--no-deps", "--force-reinstall", sdist)
    # where kernels are required, as in CI, a failed build is a failed installation
    assert run(*install, **none, KAN_FAST_REQUIRE_EXTENSION="1").returncode != 0
    done = run(*install, **none)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the native kernels were not built" in done.stdout + done.stderr
    code = """
import kan_fast, torch
print(kan_fast.__file__)
kan_fast.KANLinear(3, 2)(torch.rand(4, 3))
"""
    done = run(fresh, "-c", code)
    assert done.returncode == 0, done.stderr
    assert str(fresh.parent.parent) in done.stdout
    assert "no native kernels, layers run at the speed of plain torch" in done.stderr


def test_a_wheel_installs_without_a_compiler_and_the_front_page_runs(
    wheel: Path, fresh: Path
) -> None:
    done = run(fresh, "-m", "pip", "install", "--no-deps", wheel, CXX="/nonexistent/c++")
    assert done.returncode == 0, done.stderr
    code = blocks(ROOT / "README.md") + (
        "\nfrom kan_fast import machine\nprint(kan_fast.__file__, machine.facts().extension)"
        "\nfrom kan_fast.backends.triton.arguments import jit  # device code is a package, too"
    )
    done = run(fresh, "-c", HAVE + code)
    assert done.returncode == 0, done.stderr
    assert str(fresh.parent.parent) in done.stdout and "None" not in done.stdout
    assert run(fresh.parent / "kan-fast", "info").returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("auditwheel") is None, reason="no auditwheel here")
def test_a_wheel_runs_on_other_linux_systems(wheel: Path) -> None:
    done = run(sys.executable, "-m", "auditwheel", "show", wheel)
    assert done.returncode == 0, done.stderr
    # libgomp is torch's, on purpose (CMakeLists.txt), so `auditwheel repair --exclude libgomp.so.1`
    assert "manylinux_2_" in done.stdout
