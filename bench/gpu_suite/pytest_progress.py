"""A pytest plugin (`-p gpu_suite.pytest_progress`): every test is a unit of `progress.py`."""

from __future__ import annotations

import os
import sys

import pytest

from gpu_suite import progress

_units = progress.Progress()
_reports: list[pytest.TestReport] = []


def pytest_configure() -> None:
    """On a GPU or not at all: without one the tests would pass in the interpreter."""
    torch = sys.modules.get("torch")
    if os.environ.get(progress.ON_GPU) == "1" and torch and not torch.cuda.is_available():
        pytest.exit("torch sees no GPU", returncode=3)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what has a verdict; after tests/conftest.py has chosen this process's share."""
    _units.total(len(items))
    done = [item for item in items if progress.named(item.nodeid) in _units.done]
    items[:] = [item for item in items if item not in done]
    config.hook.pytest_deselected(items=done)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported is a failed unit; one that skips itself, a skipped one."""
    if progress.named(report.nodeid) in _units.done or report.passed:
        return
    _units.begin(report.nodeid)
    _units.end(report.nodeid, "FAIL" if report.failed else "SKIP", _reason(report))


def pytest_runtest_logstart(nodeid: str) -> None:
    """Before anything of the test runs."""
    _reports.clear()
    _units.begin(nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up, call and tear-down."""
    _reports.append(report)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else str(report.longrepr or "")[-1000:]


def pytest_runtest_logfinish(nodeid: str) -> None:
    """The verdict, and the end of a process whose context is lost."""
    failed = [r for r in _reports if r.failed]
    skipped = [r for r in _reports if r.skipped]
    error = progress.context_is_lost()
    if failed or error:
        # the test that is seen to fail first may have had its kernels launched by the one before
        reason = _reason(failed[0]) if failed else error
        _units.end(nodeid, "FAIL", reason)
        if error or any(progress.is_lost(_reason(r)) for r in failed):
            progress.leave()
    elif skipped:
        _units.end(nodeid, "SKIP", _reason(skipped[0]))
    else:
        _units.end(nodeid, "PASS")
