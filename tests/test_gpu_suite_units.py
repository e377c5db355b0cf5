"""Units of work that end their processes, and processes that have to be ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from gpu_suite_tools import ROOT, tree

from gpu_suite import parts, processes, progress, warm  # isort: skip

__all__ = ["tree"]


def test_a_unit_that_ends_its_process_costs_itself_alone(tree: Path, monkeypatch) -> None:
    log, units = tree.parent / "logs", tree.parent / "units"
    monkeypatch.setenv("PYTHONPATH", str(tree / "bench"))
    monkeypatch.setenv("UNIT_1", "progress.leave()")
    monkeypatch.setenv("UNIT_2", "raise ValueError('no such shape')")
    monkeypatch.setenv("UNIT_3", "os.kill(os.getpid(), 11)")
    monkeypatch.setenv("UNIT_4", "raise RuntimeError('CUDA error: an illegal memory access')")
    monkeypatch.setenv("UNIT_5", "time.sleep(1000)")
    done = subprocess.run(
        [sys.executable, "-m", "gpu_suite.supervise", "--progress", units, "--logs", log,
         "--each", "2", "--", sys.executable, tree.parent / "rows.py", tree.parent / "a.json",
         "0.01", "8"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    found = {u: v.verdict for u, v in progress.verdicts(progress.read(units)).items()}
    assert found == {
        "0": "PASS", "1": "FAIL", "2": "FAIL", "3": "FAIL", "4": "FAIL", "5": "TIMEOUT",
        "6": "PASS", "7": "PASS",
    }  # fmt: skip
    assert [row["row"] for row in json.loads((tree.parent / "a.json").read_text())] == list("067")
    reasons = {u: v.reason for u, v in progress.verdicts(progress.read(units)).items()}
    assert "context is lost" in reasons["1"] and "no such shape" in reasons["2"]
    seconds = progress.verdicts(progress.read(units))["5"].number
    assert 2 <= seconds < 5
    assert "SIGSEGV" in reasons["3"] and "illegal memory access" in reasons["4"]
    # 1, 3, 4 and 5 ended a process each, 2 did not
    assert (log / "units.0.log").read_text().count("--- ") == 5
    assert "3 passed, 4 failed, 1 timed out" in done.stdout


TESTS = """
import os, time, pytest, torch
def test_a(): pass
@pytest.mark.parametrize("n", range(3))
def test_b(n):
    if n == 1:
        torch.cuda.lost = True  # a kernel that fails after the test has passed
@pytest.mark.skip(reason="not here")
def test_c(): pass
def test_d(): os.abort()
def test_e(): assert 1 == 2
def test_f(): time.sleep(1000)
def test_g(): raise RuntimeError("CUDA error: misaligned address")
def test_h(): assert not torch.cuda.lost
"""
TORCH = """
class cuda:
    lost = False
    is_initialized = staticmethod(lambda: True)
    @staticmethod
    def synchronize():
        if cuda.lost:
            raise RuntimeError("CUDA error: unspecified launch failure")
"""


def test_a_lost_context_costs_one_test(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--shard')\n"
        "def pytest_collection_modifyitems(config, items):\n"
        "    n, shares = map(int, config.getoption('--shard').split('/'))\n"
        "    items[:] = items[n::shares]\n"
    )
    (tmp_path / "test_it.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'bench'}")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable if w == "{python}" else w for w in parts._pytest("test_it.py")]
    done = subprocess.run(
        [sys.executable, "-m", "gpu_suite.supervise", "--progress", "units", "--logs", "logs",
         "--each", "3", "--shares", "2", "--", *command, "--shard={share}"],
        capture_output=True, text=True,
    )  # fmt: skip
    found = progress.verdicts(progress.read(tmp_path / "units"))
    assert {u.split("::")[1]: v.verdict for u, v in found.items()} == {
        "test_a": "PASS", "test_b[0]": "PASS", "test_b[1]": "FAIL", "test_b[2]": "PASS",
        "test_c": "SKIP", "test_d": "FAIL", "test_e": "FAIL", "test_f": "TIMEOUT",
        "test_g": "FAIL", "test_h": "PASS",
    }, done.stdout + done.stderr  # fmt: skip
    assert done.returncode == 1
    assert "4 passed, 4 failed, 1 timed out, 1 skipped" in done.stdout


def test_tests_for_a_gpu_do_not_pass_without_one(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import types, sys\n"
        "cuda = types.SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)\n"
        "sys.modules['torch'] = types.SimpleNamespace(cuda=cuda)\n"
    )
    (tmp_path / "test_it.py").write_text("def test_a(): pass")
    command = [sys.executable if w == "{python}" else w for w in parts._pytest("test_it.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bench"), progress.ON_GPU: "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 3 and "torch sees no GPU" in done.stdout + done.stderr
    environment[progress.ON_GPU] = "0"
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0


def test_tests_that_cannot_start_are_no_success(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "bench"))
    for code in ("import no_such_module", "pass"):
        done = subprocess.run(
            [sys.executable, "-m", "gpu_suite.supervise", "--progress", tmp_path / "units",
             "--logs", tmp_path / "logs", "--restarts", "1", "--", sys.executable, "-c", code],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1 and "nothing ran" in done.stdout, done.stderr


def test_a_sanitizer_s_verdict_is_not_tried_again(tree: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tree / "bench"))
    run = f"{sys.executable} {tree.parent / 'rows.py'} {tree.parent / 'a.json'} 0.01 2"
    done = subprocess.run(
        [sys.executable, "-m", "gpu_suite.supervise", "--progress", tree.parent / "units",
         "--logs", tree.parent / "logs", "--final", "9", "--", "bash", "-c",
         f"{run} && echo ERROR SUMMARY: 2 errors && exit 9"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "2 passed" in done.stdout
    assert "exit code 9; ERROR SUMMARY: 2 errors" in done.stdout
    assert (tree.parent / "logs" / "units.0.log").read_text().count("--- ") == 1


def test_processes_are_found_wherever_they_went(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = processes.start(
            ["bash", "-c", "setsid sleep 1000 & sleep 1000"], os.environ, log, tmp_path
        )
    until = time.monotonic() + 10
    while len(processes.descendants(process.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    below = processes.descendants(process.pid)
    assert len(below) == 2
    processes.end(process, 0.5)
    assert process.poll() is not None
    assert not any(Path(f"/proc/{pid}").exists() and "Z" not in
                   Path(f"/proc/{pid}/stat").read_text() for pid in below)  # fmt: skip


def test_what_is_noted_counts_though_its_process_is_slow(tmp_path: Path, monkeypatch) -> None:
    found = tmp_path / "a.launches"
    found.write_text("one\ntwo\none\n")
    slow = subprocess.Popen(["sleep", "1000"])
    monkeypatch.setenv(progress.UNTIL, str(time.time() + 2))
    began = time.monotonic()
    assert warm.noted([warm.Collector("a", found, slow)]) == ["one", "two"]
    assert time.monotonic() - began < 1.9 and slow.poll() is not None


def test_compiling_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    program = (
        "import os, time\n"
        "from gpu_suite import collect, warm\n"
        "def compile_line(line, known):\n"
        "    os.write(1, b'at it\\n')\n"  # in one piece, whatever the other process writes
        "    time.sleep(1000)\n"
        "collect.compile_line = compile_line\n"
        "warm.compile_all(['a', 'b'], {}, 2)\n"
    )
    compiling = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bench")},
    )  # fmt: skip
    assert [compiling.stdout.readline() for _ in range(2)] == ["at it\n"] * 2
    workers = processes.descendants(compiling.pid)
    assert len(workers) == 2
    compiling.kill()
    compiling.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
