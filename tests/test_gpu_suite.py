"""The driver of bench/gpu_suite.sh on parts that delay, fail, get stuck, crash and are killed.

No GPU, no torch, no network, no repository: a copy of the sources in a folder of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))  # last: both folders have a cases.py

from gpu_suite import parts, processes, progress, results  # noqa: E402

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


@pytest.mark.parametrize("rehearse", [False, True])
def test_limits_add_up_to_what_is_promised(rehearse: bool) -> None:
    whole = parts.parts(quick=False, rehearse=rehearse)
    quick = parts.parts(quick=True, rehearse=rehearse)
    assert sum(part.limit for part in whole) <= 560
    assert sum(part.limit for part in quick) <= 170
    order = [part.name for part in whole]
    assert order.index("core") < order.index("ratios") < order.index("build")
    assert order.index("build") < order.index("tests") < order.index("memcheck")
    assert order[-2:] == ["layers", "bench"]
    for listed in (whole, quick):
        names = [part.name for part in listed]
        # no part waits for one that comes later, and no unit may take longer than its part
        for n, part in enumerate(listed):
            assert {*part.after, *part.unless} <= set(names[:n])
            if "--each" in part.command:
                assert float(part.command[part.command.index("--each") + 1]) <= part.limit


def test_the_driver_needs_no_torch() -> None:
    code = "import sys, gpu_suite.__main__; sys.exit(bool({'torch', 'pytest'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bench")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


#: the suite's own parts and limits, with rows in the place of the work
OWN = """[
    dataclasses.replace(
        part, programs=(), after=(), unless=(), command=(
            sys.executable, "-m", "gpu_suite.supervise", "--progress",
            "{work}/logs/" + part.name + ".units", "--logs", "{work}/logs/" + part.name, "--",
            sys.executable, "ROWS", "{out}/" + {"ratios": "core", "layers": "gpu_kernels"}.get(
                part.name, "gpu") + ".json", str(part.limit * SCALE / 40), "6"),
    ) for part in parts()
]"""


@pytest.mark.parametrize("second", [30, 90, 300])
def test_a_kill_leaves_everything_that_was_known(tree: Path, second: int) -> None:
    own = OWN.replace("ROWS", str(tree.parent / "rows.py")).replace("SCALE", str(SCALE))
    process = start(tree, own)
    process.stdout.readline()  # the clock of the suite has started
    time.sleep(second * SCALE)
    process.kill()
    process.wait()
    lines = checked_output(tree)
    assert "on a GPU" in lines[0] and "H100" in lines[1] and "commit" in lines[3]
    if second >= 300:
        assert verdict(lines, "core") == "PASS" and verdict(lines, "ratios") == "PASS"
        assert any("over MLP 1.23" in line for line in lines)
        rows = json.loads((tree.parent / "out" / "core.json").read_text())
        assert [row["row"] for row in rows] == list("012345")
    # nothing of it goes on
    until = time.monotonic() + 10
    while running("rows.py", tree) and time.monotonic() < until:
        time.sleep(0.1)
    assert not running("rows.py", tree)


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


def test_a_part_that_fails_crashes_or_hangs_costs_itself_alone(tree: Path) -> None:
    marker = tree.parent / "grandchild"
    stuck = f"trap '' TERM; (trap '' TERM; exec setsid bash -c 'sleep 1000; : {marker}') & wait"
    chosen = f"""[
        sh("fine", "echo all is well"), sh("fails", "echo oh no; exit 3"),
        sh("crashes", "kill -SEGV $$"), sh("hangs", {stuck!r}, 10), sh("leaves", {stuck!r} + " &"),
        sh("waits", "true", after=("fails",)), sh("lacks", "true", programs=("no-such-program",)),
        sh("nothing", "no-such-command"), Part("missing", ("/no/such/file",), 4, ()),
        sh("last", "echo the end"),
    ]"""
    began = time.monotonic()
    code, printed, lines = finished(tree, chosen)
    assert time.monotonic() - began < 30
    expected = {
        "fine": "PASS", "fails": "FAIL", "crashes": "FAIL", "hangs": "TIMEOUT", "leaves": "PASS",
        "waits": "SKIP", "lacks": "SKIP", "nothing": "FAIL", "missing": "FAIL", "last": "PASS",
    }  # fmt: skip
    assert {name: verdict(lines, name) for name in expected} == expected
    assert code == sum(v in ("FAIL", "TIMEOUT") for v in expected.values())
    for text in ("exit code 3; oh no", "SIGSEGV", "fails did not pass", "no-such-program is not"):
        assert any(text in line for line in lines), text
    # the table comes last, and all that is in the file was printed
    assert [line.split()[3] for line in lines[-10:]] == list(expected)
    assert printed.splitlines()[-len(lines) :] == lines
    assert not running("grandchild", tree)


def test_time_that_is_left_is_for_later_parts_within_the_total(tree: Path) -> None:
    chosen = "[sh('early', 'true', 100), sh('late', 'sleep 3', 50), sh('last', 'sleep 90', 25)]"
    began = time.monotonic()
    code, _, lines = finished(tree, chosen)
    # what `early` leaves is enough for `late`, whose own limit is not; `last` ends with the total
    assert verdict(lines, "late") == "PASS" and verdict(lines, "last") == "TIMEOUT" and code == 1
    assert time.monotonic() - began < 175 * SCALE + 5


def test_every_limit_is_scaled(tree: Path) -> None:
    _, _, lines = finished(tree, "[sh('a', 'sleep 9', 50)]")
    assert any("BEGIN   a, at most 2 s" in line for line in lines)
    assert verdict(lines, "a") == "TIMEOUT"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_word(tree: Path, number: int) -> None:
    process = start(tree, "[sh('a', 'echo so far; sleep 1000 # signalled', 4000)]")
    while " BEGIN " not in process.stdout.readline():
        pass
    time.sleep(0.3)
    process.send_signal(number)
    process.communicate(timeout=30)
    lines = checked_output(tree)
    assert "KILLED" in lines[-1] and signal.Signals(number).name in lines[-1]
    assert process.returncode == 128 + number
    with tarfile.open(tree.parent / "out" / "logs.tar.gz") as tar:
        assert tar.extractfile("logs/a.log").read() == b"so far\n"


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


def test_logs_are_cut_to_what_can_be_taken_home(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for n in range(40):
        (logs / f"{n}.log").write_bytes(b"begin" + os.urandom(3 << 20) + b"end")
    results.archive(logs, tmp_path)
    assert (tmp_path / "logs.tar.gz").stat().st_size < results.LARGEST_FILE
    with tarfile.open(tmp_path / "logs.tar.gz") as tar:
        found = tar.extractfile("logs/7.log").read()
    assert found.startswith(b"begin") and found.endswith(b"end") and b"left out" in found


def test_a_full_disk_ends_nothing(tree: Path) -> None:
    """Of the folder for results: a few pages in memory."""
    out = tree.parent / "out"
    out.mkdir()
    mount = f"mount -t tmpfs -o size=64k none {out}"
    if subprocess.run(["unshare", "-rm", "bash", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    chosen = """[
        sh("fills", "head -c 200000 /dev/urandom > {out}/noise; echo full"),
        sh("noise", "head -c 200000 /dev/urandom"), sh("last", "echo the end"),
    ]"""
    process = start(tree, chosen)
    process.kill()  # only for the program and the environment that it made
    process.wait()
    again = f"{mount} && exec {sys.executable} {tree.parent / 'suite.py'} --work "
    again += f"{tree.parent / 'work'} --scale {SCALE} {out}; "
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", again], capture_output=True, text=True,
        env={"PATH": f"{tree.parent / 'tools'}:{os.environ['PATH']}",
             "PYTHONPATH": str(tree / "bench")},
    )  # fmt: skip
    assert "PASS    last" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_what_nobody_expects(tree: Path) -> None:
    """Parts that stop themselves, print what is no text, or remove the folder for results."""
    chosen = """[
        sh("stops", "kill -STOP $$", 10), sh("noise", r"printf '\\033[2J\\0\\377 x\\n'; exit 1"),
        sh("endless", "yes | tr -d '\\\\n'", 10), sh("removes", "rm -r " + sys.argv[-1]),
        sh("last", "echo the end"),
    ]"""
    process = start(tree, chosen)
    printed, _ = process.communicate(timeout=60)
    lines = [line for line in printed.splitlines() if LINE.match(line)]
    expected = {"stops": "TIMEOUT", "noise": "FAIL", "endless": "TIMEOUT"}
    assert {name: verdict(lines, name) for name in expected} == expected
    assert process.returncode == 3
    assert any("PASS    last" in line for line in lines), printed
    assert "\033" not in printed


def test_no_gpu_is_said_at_once(tree: Path) -> None:
    (tree.parent / "tools" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    code, printed, lines = finished(tree, "[sh('a', 'true')]")
    assert code == 1 and "nvidia-smi finds no GPU here" in lines[-1] and "BEGIN" not in printed
    code, _, lines = finished(tree, "[sh('a', 'true')]", "--rehearse")
    assert code == 0 and "rehearsal" in lines[0]


def test_a_reader_that_goes_away_ends_nothing(tree: Path) -> None:
    process = start(tree, "[sh('a', 'sleep 0.5'), sh('b', 'echo the end')]")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert verdict(checked_output(tree), "b") == "PASS"


def test_sources_without_a_repository_have_a_name(tree: Path) -> None:
    from kan_fast import commit

    name = commit.of(tree)
    assert re.fullmatch(r"sources [0-9a-f]{12}", name)
    (tree / "bench" / "results").mkdir(exist_ok=True)
    (tree / "bench" / "results" / "new.json").write_text("{}")
    assert commit.of(tree) == name
    (tree / "kernels" / "new.cu").write_text("//")
    assert commit.of(tree) != name
    assert commit.of(tree, "abc123") == "abc123"
    for arguments, expected in (((), commit.of(tree)), (("--commit", "abc123"), "abc123")):
        _, _, lines = finished(tree, "[sh('a', 'echo $KAN_FAST_COMMIT')]", *arguments)
        assert lines[3].endswith(f"commit {expected}")
        assert any(line.endswith(f"  {expected}") for line in lines if "PASS" in line)


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


def test_the_core_is_rehearsed_from_end_to_end(tmp_path: Path) -> None:
    """The suite's own core on this machine, in the interpreter, with everything that it leaves."""
    pytest.importorskip("triton")
    command = [*without_network(), "bash", ROOT / "bench" / "gpu_suite.sh", "--rehearse", "--only",
               "facts", "core", "ratios", "--scale", "8", "--work", tmp_path / "work",
               tmp_path / "out"]  # fmt: skip
    (tmp_path / "tools").mkdir()
    python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    for name, text in (("python3", python), ("nvidia-smi", SMI)):
        (tmp_path / "tools" / name).write_text(text)
        (tmp_path / "tools" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}"}
    for name in ("PYTEST_ADDOPTS", "KAN_FAST_COMMIT"):
        environment.pop(name, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = checked_output(tmp_path / "source")
    assert "rehearsal" in lines[0]
    assert verdict(lines, "core") == verdict(lines, "ratios") == "PASS"
    assert sum("PASS    core: tests/test_gpu_core.py::" in line for line in lines) >= 12
    found = json.loads((tmp_path / "out" / "core.json").read_text())
    assert found["machine"]["rehearsal"] is True and found["machine"]["commit"] in lines[3]
    assert len(found["rows"]) == 5 and "failed" not in found
    rows = [*(row["step"] for row in found["rows"]), found["second_derivatives"]]
    for row in rows:
        assert {"mlp", "padded mlp", "kan_fast", "kan_fast, graph"} <= row["seconds"].keys()
        assert row["over_padded_mlp"]["kan_fast"]["median"] > 0
    # each of them was told when it was known
    assert sum("over MLP" in line for line in lines) == len(rows)
