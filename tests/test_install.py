"""Installation where no compiler is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_without_a_compiler_it_installs_and_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    ignored = shutil.ignore_patterns("*.so", "build", "*.egg-info", ".git", ".venv", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    env = os.environ | {"CXX": "/nonexistent/c++"}
    env.pop("KAN_FAST_REQUIRE_EXTENSION", None)
    pip = [sys.executable, "-m", "pip", "install", "-v", "--no-deps", "--target", str(target)]
    done = subprocess.run([*pip, str(source)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the native kernels were not built" in done.stdout + done.stderr

    # the finder of an editable installation would lend the extension of the source tree
    code = """
import sys
sys.meta_path = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
import kan_fast, torch
print(kan_fast.__file__)
kan_fast.KANLinear(3, 2)(torch.rand(4, 3))
"""
    env["PYTHONPATH"] = str(target)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
    assert "no native kernels, layers run at the speed of plain torch" in done.stderr

    # and where kernels are required, as in CI, a failed build is a failed installation
    env["KAN_FAST_REQUIRE_EXTENSION"] = "1"
    done = subprocess.run([*pip, str(source)], env=env, capture_output=True, text=True)
    assert done.returncode != 0
