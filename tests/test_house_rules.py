"""Who may know whom, and how the house is kept: docs/architecture.md as a test."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = sorted((ROOT / "kan_fast").rglob("*.py"))
KERNELS = sorted(
    p for p in (ROOT / "kernels").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}
)
TRITON = sorted((ROOT / "kernels" / "triton_jit").glob("*.py"))
CSRC = sorted((ROOT / "csrc").glob("*.cpp"))


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top_level_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def ours(path: Path) -> set[str]:
    return {m for m in imports(path) if m.startswith("kan_fast.")}


def includes(path: Path) -> list[str]:
    return re.findall(r'#include [<"]([^>"]+)[>"]', path.read_text())


def test_there_is_a_house() -> None:
    assert len(PYTHON) > 15 and len(KERNELS) > 10 and CSRC


@pytest.mark.parametrize("path", KERNELS + CSRC, ids=lambda p: p.name)
def test_native_code_knows_no_torch(path: Path) -> None:
    for header in includes(path):
        assert not re.match(r"(torch|ATen|c10)/", header), header
        if path in KERNELS:
            assert not re.match(r"(pybind11|Python)", header), header


@pytest.mark.parametrize("path", [p for p in KERNELS if "include" in p.parts], ids=lambda p: p.name)
def test_shared_headers_run_on_a_device(path: Path) -> None:
    allowed = {"cmath", "cstdint"}
    assert {h for h in includes(path) if not h.startswith("kan_fast/")} <= allowed
    code = re.sub(r"//.*", "", path.read_text())
    assert not re.search(r"\b(throw|new|malloc|std::vector)\b", code)


@pytest.mark.parametrize("path", TRITON, ids=lambda p: p.name)
def test_triton_kernels_know_triton_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            continue  # a sibling
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} == {"triton"}
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] == "triton"
    # launches and their configurations are the host's; nothing is tuned or compiled at import
    assert not re.search(r"autotune|heuristics|\]\(", path.read_text().replace("tl.", ""))


def test_csrc_has_no_math() -> None:
    for path in CSRC:
        assert not re.search(r"std::(exp|log|pow|tanh)|omp ", path.read_text())


def test_the_oracle_imports_nothing_it_judges() -> None:
    for path in (ROOT / "kan_fast" / "reference").glob("*.py"):
        allowed = ("kan_fast.reference", "kan_fast.spec")
        assert all(m.startswith(allowed) for m in ours(path)), path


def test_the_planner_sees_data_only() -> None:
    """The planner and all that it imports: no tensors, no environment."""
    waiting, seen = [ROOT / "kan_fast" / "backends" / "planner.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path.name)
        assert not imports(path) & {"torch", "os"}, path
        for name in ours(path):
            file = ROOT / (name.replace(".", "/") + ".py")
            if file.exists() and file.name not in seen:
                waiting.append(file)
    assert seen == {"planner.py", "errors.py", "spec.py"}


def test_only_the_environment_page_reads_the_environment() -> None:
    for path in PYTHON:
        # sitecustomize.py runs before anything of kan_fast may be imported
        if path.name not in ("envs.py", "sitecustomize.py"):
            assert "environ" not in path.read_text() and "getenv" not in path.read_text(), path


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_names_of_torch_are_in_one_module(path: Path) -> None:
    # and with them what its versions treat differently
    private = r"torch(\.\w+)*\._(?!_)|forward_ad|_functorch|proxy_tensor|compiler\.is_exporting"
    if path.name != "torch_internals.py":
        assert not re.search(private, path.read_text())


def test_every_variable_is_documented() -> None:
    text = (ROOT / "docs" / "envs.md").read_text()
    sources = PYTHON + TRITON + KERNELS + [ROOT / "setup.py"]
    used = {v for p in sources for v in re.findall(r'"(KAN_FAST_[A-Z_]+)"', p.read_text())}
    for name in used - {"KAN_FAST_VERSION", "KAN_FAST_COMPILER"}:
        assert name in text, name


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_stay_light(path: Path) -> None:
    allowed = {"torch", "kan_fast", "__future__"}
    import sys

    for module in top_level_imports(path):
        top = module.split(".")[0]
        assert top in allowed or top in sys.stdlib_module_names, f"{path} imports {module}"


@pytest.mark.parametrize(
    "path", PYTHON + TRITON + KERNELS + CSRC, ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize("path", PYTHON + TRITON, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_things_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if path.parent.name == "cli" and node.name in ("run", "add_arguments"):
                continue  # the contract of COMMANDS
            if node.name in ("PlainKANLinear",):
                continue
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_the_version_is_in_one_place() -> None:
    import kan_fast
    from kan_fast import machine

    assert machine.extension().build_info()["version"] == kan_fast.__version__
    assert f"## {kan_fast.__version__}" in (ROOT / "CHANGELOG.md").read_text()


#: from here on subjects are short and bodies say why
FIRST_SHORT_SUBJECT = "68835e5"


def test_subjects_of_commits_are_short_and_bodies_say_why() -> None:
    command = ["git", "log", "--format=%h%x00%s%x00%b%x01", f"{FIRST_SHORT_SUBJECT}..HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"there is no history to read: {done.stderr.strip()[:80]}")
    for entry in done.stdout.split("\x01")[:-1]:
        commit, subject, body = entry.strip().split("\x00")
        assert len(subject) <= 60, f"{commit}: {subject}"
        assert body.strip(), f"{commit} says nothing beside its subject"
