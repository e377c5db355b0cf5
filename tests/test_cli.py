"""The commands, as a user runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from judge import native_kernels

import kan_fast
from kan_fast.baselines import kan_parameters, mlp, same_parameter_widths
from kan_fast.cli import bench, main


def command(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "kan_fast", *args], capture_output=True, text=True)


def test_demo_trains_and_draws(tmp_path: Path) -> None:
    done = command("demo", "--epochs", "8", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    plain, fast, perceptron = figures["models"]
    assert figures["losses_agree"] and figures["largest_relative_loss_difference"] < 1e-3
    assert plain["test_accuracy"] == pytest.approx(fast["test_accuracy"], abs=0.01)
    assert fast["test_accuracy"] > 0.9 and perceptron["test_accuracy"] > 0.9
    picture = Path(figures["picture"])
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000


def test_demo_prints_a_table(tmp_path: Path) -> None:
    done = command("demo", "--epochs", "1", "--rows", "400", "--out", str(tmp_path), "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert "MLP, same parameters" in done.stdout and "times the speed" in done.stdout


def test_demo_refuses_nonsense(capsys) -> None:
    assert main(["demo", "--epochs", "0"]) == 2
    assert "at least 1, got 0" in capsys.readouterr().err


def test_info() -> None:
    done = command("info", "--json")
    found = json.loads(done.stdout)
    assert found["backends"]["native on cpu"] == "available"
    assert found["kan_fast"] and found["torch"]
    assert "native on cpu" in command("info").stdout


def test_help_and_unknown_commands() -> None:
    for args in (("--help",), ("demo", "--help"), ("info", "--help"), ("--version",)):
        assert command(*args).returncode == 0
    assert command("dance").returncode == 2


def test_same_parameter_widths() -> None:
    # h = P / (i + o + 1)
    assert same_parameter_widths([512, 512], 5, 3) == [512, 2302, 512]
    for widths, grid_size in [([32, 64, 1], 5), ([784, 64, 10], 5), ([64] * 5, 8), ([2, 5, 1], 5)]:
        total = kan_parameters(widths, grid_size, 3)
        perceptron = mlp(same_parameter_widths(widths, grid_size, 3))
        count = sum(p.numel() for p in perceptron.parameters())
        assert abs(count - total) <= 0.05 * total + widths[-1] + 10


def test_doctor_passes_and_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and {"native", "reference"} <= {f["backend"] for f in found["findings"]}
    verdicts = {(f["backend"], f["check"]): f["verdict"] for f in found["findings"]}
    assert verdicts["native", "double backward"] == "PASS"
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "PASS  native" in text and "To paste into an issue" in text


def test_doctor_fails_when_a_kernel_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = native_kernels.out
    monkeypatch.setattr(native_kernels, "out", lambda *args: right(*args) * 1.001)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "FAIL  native     forward" in text and "KAN_FAST_BACKEND=reference" in text


def test_bench_answers_for_one_shape(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "--mine", "6,4,2", "--rows", "9", "--grid", "4", "--seconds", "0.01"]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["shape"] == "9 6-4-2 G4"
    assert {"mlp", "kan_fast", "plain PyTorch", "accelerated"} <= set(row["step"])
    assert set(row["step"]) == set(row["peak_bytes"])
    assert row["step"]["mlp"]["over_mlp"]["median"] == 1
    assert row["error"] < 1e-5
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "times that of the MLP with as many parameters" in " ".join(said.split())


@pytest.mark.parametrize("bad", ["6", "6,0", "a,b"])
def test_bench_refuses_widths_that_are_none(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--mine", bad])
    assert "--mine" in capsys.readouterr().err


def test_bench_writes_a_report_that_needs_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "libraries", _few_libraries)
    assert main(["bench", "--quick", "--seconds", "0.001", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4 and page.count("<table>") == 3
    # nothing is fetched: every link is a place inside the page, or a name of a standard
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("#") for link in links)
    result = json.loads((tmp_path / "report.json").read_text())
    assert list(result["shapes"]) == ["1000 2-5-1 G5", "2601 2-10-1 G5"]
    markdown = (tmp_path / "report.md").read_text()
    plots = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert sorted(plots) == sorted(file.name for file in tmp_path.glob("*.svg"))
    why = "ValueError: only {}even{} widths"
    assert why.format("&lt;", "&gt;") in page and why.format("<", ">") in markdown
    for title, row in result["shapes"].items():
        median = row["step"]["kan_fast"]["over_mlp"]["median"]
        assert re.search(rf"\| {title} \|.*\| {median:.2f} \(", markdown)


class _Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("only <even> widths")


def _few_libraries(shape: bench.Shape, compiled: bool) -> dict[str, torch.nn.Module]:
    return {
        "efficient-kan": _Broken(),
        "mlp": torch.nn.Linear(shape.widths[0], shape.widths[-1]),
        "kan_fast": kan_fast.KAN(shape.widths, shape.grid_size, shape.spline_order),
    }
