"""Who may import whom, and the way of `x`: docs/architecture.md as a test."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import torch

import kan_fast

PACKAGE = Path(kan_fast.__file__).parent
#: folders from the ground up; a module imports from its own floor and from those before it
FLOORS = ["", "reference", "backends", "ops", "layers", "interop", "inspect", "cli"]
#: modules beside the folders, which all of them may import; `__init__` and `__main__` stand on top
GROUND = {
    "baselines", "envs", "errors", "machine", "spec", "testing", "torch_internals", "version",
}  # fmt: skip
#: files under this many lines need a reason
FEW_LINES = 30
SHORT = {
    "version.py": "setuptools and CMake read it",
    "__main__.py": "python -m kan_fast",
    "backends/reference.py": "one backend a file",
    "reference/gaussian_rbf.py": "one family a file",
}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").rstrip(".")


MODULES = {module_of(p): p for p in sorted(PACKAGE.rglob("*.py")) if "_triton_jit" not in p.parts}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [
                f"{node.module}.{a.name}"
                if f"{node.module}.{a.name}".removeprefix("kan_fast.") in MODULES
                else node.module
                for a in node.names
            ]
        for name in names:
            if name.startswith("kan_fast.") and "_triton_jit" not in name:
                found.add(name.removeprefix("kan_fast."))
    return found


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[0] if module.split(".")[0] in FLOORS else "")


def test_modules_beside_the_folders() -> None:
    beside = {p.stem for p in PACKAGE.glob("*.py")}
    assert beside == GROUND | {"__init__", "__main__"}
    assert {p.parent.name for p in PACKAGE.glob("*/__init__.py")} - {"_triton_jit"} == set(
        FLOORS[1:]
    )


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("", "__main__")])
def test_no_import_upwards(module: str) -> None:
    for other in IMPORTS[module]:
        if other in GROUND:
            continue
        assert other in MODULES, f"{module} imports {other}, which is not there"
        assert module not in GROUND, f"{module} is the ground and imports {other}"
        assert floor(other) <= floor(module), f"{module} imports {other} from above"


def test_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in IMPORTS.get(module, ()):
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_kernels_of_one_device_are_not_those_of_another() -> None:
    folders = ("cpu", "cuda", "triton")
    for module, others in IMPORTS.items():
        parts = module.split(".")
        if parts[0] == "backends" and len(parts) > 2:
            for other in others:
                theirs = other.split(".")
                assert theirs[0] != "backends" or len(theirs) < 3 or theirs[1] == parts[1], (
                    f"{module} imports {other}"
                )
                assert parts[1] in folders


def test_autograd_knows_what_a_backend_is_and_none_of_them() -> None:
    of_backends = {m for m in IMPORTS["ops.autograd"] if m.startswith("backends")}
    assert of_backends == {"backends.base", "backends.layer"}


def test_backends_know_nothing_of_autograd() -> None:
    for module, path in MODULES.items():
        if module.startswith("backends"):
            assert "torch.autograd" not in path.read_text(), module


def test_files_are_not_slivers() -> None:
    short = {
        str(p.relative_to(PACKAGE))
        for p in MODULES.values()
        if len(p.read_text().splitlines()) < FEW_LINES and p.name != "__init__.py"
    }
    assert short == set(SHORT)


def names_in(text: str) -> set[str]:
    """Python files that a text names."""
    in_ticks = re.findall(r"`([\w/]+\.py)`", text)
    return set(in_ticks) | set(re.findall(r"(?<![\w/.])(\w+\.py)\b", text))


@pytest.mark.parametrize("module", list(MODULES))
def test_files_that_texts_name_exist(module: str) -> None:
    root = PACKAGE.parent
    files = {
        str(p.relative_to(root))
        for top in ("kan_fast", "kernels", "bench", "tests", "csrc")
        for p in (root / top).rglob("*.py")
    }
    files |= {"setup.py", "script.py", "sitecustomize.py"}
    for name in names_in(MODULES[module].read_text()):
        assert any(f == name or f.endswith("/" + name) for f in files), name


def rooms_of(call, x: torch.Tensor, until: str) -> list[str]:
    """The modules that `x` enters as an argument, by a call from another module, until a function
    of C with that name is called."""
    rooms: list[str] = []
    running = True

    def module(frame) -> str | None:
        name = frame.f_globals.get("__name__", "")
        return name.removeprefix("kan_fast.") if name.startswith("kan_fast.") else None

    def profile(frame, event: str, argument) -> None:
        nonlocal running
        if event == "c_call" and getattr(argument, "__name__", "") == until:
            running = False
        if not running or event != "call":
            return
        room = module(frame)
        code = frame.f_code
        given = [frame.f_locals.get(n) for n in code.co_varnames[: code.co_argcount]]
        rest = frame.f_locals.get(code.co_varnames[code.co_argcount]) if code.co_flags & 4 else ()
        if room is None or not any(t is x for t in (*given, *rest)):
            return
        caller = frame.f_back
        while caller is not None and module(caller) is None:
            caller = caller.f_back
        if caller is None or module(caller) != room:
            rooms.append(room)

    sys.setprofile(profile)
    try:
        call(x)
    finally:
        sys.setprofile(None)
    assert not running, f"{until} was not called"
    return rooms


def test_the_way_of_x_to_the_kernel() -> None:
    layer, x = kan_fast.KANLinear(3, 4), torch.rand(5, 3)
    layer(x)  # what is found out once
    way = rooms_of(layer, x, "contract_out")
    assert way == [
        "layers.spline", "ops.spline", "ops.plan", "ops.transforms", "ops.autograd",
        "backends.base", "backends.plain", "backends.cpu.spline", "backends.crossing",
    ]  # fmt: skip
