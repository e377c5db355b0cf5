"""What every test may assume: the native extension is there, and seeds are fixed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# tests run in several processes, whose threads must not spin while they wait; read by OpenMP's
# runtime when torch loads it
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

if not torch.cuda.is_available():
    # before anything imports triton: its kernels then run in the interpreter, on CPU tensors
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
from cases import instruction_sets
from emulation import lend

from kan_fast import machine

try:
    from hypothesis import settings
except ImportError:  # a machine that only runs the tests of its GPU
    settings = None
else:
    # the gate decides about a change, not about the luck of a draw; elsewhere every run draws anew
    settings.register_profile("ci", derandomize=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shard", default="0/1", help="N/M: of M equal shares of the tests, run number N"
    )


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be absent or left out
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` in pyproject.toml means: each process has torch's threads of its own."""
    return min(os.cpu_count() or 1, 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share, shares = map(int, config.getoption("--shard").split("/"))
    if shares > 1:
        items[:] = items[share::shares]


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") and settings is not None:
        settings.load_profile("ci")
    if os.environ.get("KAN_FAST_ALLOW_REFERENCE") == "1":
        return
    facts = machine.facts()
    if facts.extension is None:
        pytest.exit(
            f"kan_fast._C is not loaded ({facts.extension_error}), so the kernels would go "
            'untested. Run: python -m pip install -e ".[test]"; or set '
            "KAN_FAST_ALLOW_REFERENCE=1 to test the fallback alone",
            returncode=2,
        )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=instruction_sets())
def isa(request: pytest.FixtureRequest) -> str:
    """Runs the test once for every instruction set, the scalar-friendly baseline included."""
    extension = machine.extension()
    extension.set_isa(request.param)
    yield request.param
    extension.set_isa(machine.facts().extension)


@pytest.fixture(scope="session")
def emulation() -> Path | None:
    """The CUDA kernels for the host, where there is no GPU for them."""
    if torch.cuda.is_available() or machine.facts().extension is None:
        return None
    return lend()


@pytest.fixture
def double() -> Iterator[None]:
    """float64 by default: a line search and a grid search magnify rounding; float32 would decide by
    luck."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
