"""What the tests of bench/gpu_suite share: a copy of the sources, the suite run on fake parts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))  # last: both folders have a cases.py

from gpu_suite import results  # noqa: E402

#: a second of the suite takes so long here
SCALE = 1 / 25
LINE = re.compile(r"\d\d:\d\d\.\d  (NOTE|BEGIN|PASS|FAIL|SKIP|TIMEOUT|KILLED|TABLE) +\S")
SMI = """#!/bin/sh
echo "NVIDIA H100 80GB HBM3, 580.159.04, 9.0, 81559 MiB"
"""
#: a part that works through units, of which each adds a row to a whole JSON file
ROWS = """
import json, os, pathlib, sys, time
from gpu_suite import progress, results
out, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
rows = json.loads(out.read_text()) if out.exists() else []
units = progress.Progress()
for name in units.remaining(map(str, range(int(sys.argv[3])))):
    with units.unit(name):
        time.sleep(seconds)
        exec(os.environ.get("UNIT_" + name, ""))
        rows.append({"row": name, "filling": "x" * 20000})
        results.write_whole(out, json.dumps(rows))
        results.say("NOTE", "row " + name + ": over MLP 1.23")
print(len(rows), "rows")
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What an archive of the sources has of them, as far as the driver needs it."""
    tree = tmp_path / "source"
    leave = shutil.ignore_patterns("__pycache__", "results", "*.so", "_triton_jit")
    for folder in ("bench", "kan_fast", "kernels", "csrc"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=leave)
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(SMI)
    (tools / "nvidia-smi").chmod(0o755)
    (tmp_path / "rows.py").write_text(ROWS)
    return tree


def without_network() -> list[str]:
    """A command that takes the network away, where that is allowed."""
    take = ["unshare", "--net", "--map-root-user"]
    allowed = (
        shutil.which("unshare")
        and not subprocess.run([*take, "true"], capture_output=True).returncode
    )
    return take if allowed else []


def start(tree: Path, chosen: str, *arguments: str, **options) -> subprocess.Popen:
    """The suite with the parts of a Python expression in place of its own."""
    program = tree.parent / "suite.py"
    program.write_text(
        "import dataclasses, sys\n"
        "from gpu_suite.__main__ import main\n"
        "from gpu_suite.parts import Part, parts\n"
        "def sh(name, command, limit=25, after=(), **more):\n"
        "    return Part(name, ('bash', '-c', command), limit, after, (), **more)\n"
        f"sys.exit(main(sys.argv[1:], {chosen}))\n"
    )
    environment = {
        "PATH": f"{tree.parent / 'tools'}:{os.environ['PATH']}", "HOME": str(tree.parent),
        "PYTHONPATH": str(tree / "bench"),
    }  # fmt: skip
    command = [
        *without_network(), sys.executable, str(program), "--scale", str(SCALE),
        "--work", str(tree.parent / "work"), *arguments, str(tree.parent / "out"),
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=environment, cwd=tree.parent, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def finished(tree: Path, chosen: str, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit code, what was printed, and the lines of the verdicts."""
    process = start(tree, chosen, *arguments)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed, checked_output(tree)


def checked_output(tree: Path) -> list[str]:
    """What is left behind can be read and taken home, whenever the suite has ended."""
    out = tree.parent / "out"
    files = [p for p in out.rglob("*") if p.is_file()]
    assert len(files) <= 8
    for path in files:
        assert len(path.relative_to(out).parts) <= 2
        assert path.stat().st_size < results.LARGEST_FILE
        if path.suffix == ".json":
            assert json.loads(path.read_text())
    text = (out / "verdicts.txt").read_text()
    assert text.endswith("\n")
    lines = text.splitlines()
    for line in lines:
        assert LINE.match(line), line
    begun = [line.split()[2].rstrip(",") for line in lines if " BEGIN " in line]
    ended = {line.split()[2] for line in lines if re.search(r" (PASS|FAIL|TIMEOUT) ", line)}
    # only the last one can be without a verdict
    assert set(begun[:-1]) <= ended
    if begun[1:]:
        with tarfile.open(out / "logs.tar.gz") as tar:
            names = {Path(m.name).name for m in tar if tar.extractfile(m).read() is not None}
        assert {f"{name}.log" for name in begun[:-1]} <= names
    return lines


def verdict(lines: list[str], part: str) -> str:
    (found,) = [
        line.split()[1]
        for line in lines
        if re.search(rf" (PASS|FAIL|SKIP|TIMEOUT) +{part}  ", line) and " TABLE " not in line
    ]
    return found


def running(name: str, tree: Path) -> list[str]:
    """Processes whose command line holds the name and the folder of this test."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name in words and str(tree.parent) in words:
            found.append(words)
    return found
