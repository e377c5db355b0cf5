"""The driver of bench/gpu_suite.sh on parts that delay, fail, get stuck, crash and are killed.

No GPU, no torch, no network, no repository: a copy of the sources in a folder of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from gpu_suite_tools import (
    LINE,
    ROOT,
    SCALE,
    SMI,
    checked_output,
    finished,
    running,
    start,
    tree,
    verdict,
    without_network,
)  # fmt: skip

from gpu_suite import parts, results  # isort: skip

__all__ = ["tree"]


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
    # a suite that ends before it begins has said why
    printed = list(itertools.takewhile(lambda line: " BEGIN " not in line, process.stdout))
    assert process.poll() is None, "".join(printed)
    time.sleep(0.3)
    process.send_signal(number)
    process.communicate(timeout=30)
    lines = checked_output(tree)
    assert "KILLED" in lines[-1] and signal.Signals(number).name in lines[-1]
    assert process.returncode == 128 + number
    with tarfile.open(tree.parent / "out" / "logs.tar.gz") as tar:
        assert tar.extractfile("logs/a.log").read() == b"so far\n"


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
    from kan_fast.cli import commit

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
