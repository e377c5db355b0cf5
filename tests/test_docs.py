"""What the documents say runs: their Python blocks, their links, and the API pages."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "bench"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/howto").glob("*.md"))]
#: the model that a reader of the front page already has
HAVE = """
import torch
from kan_fast.cli.plain_kan import PlainKANLinear
model = torch.nn.Sequential(PlainKANLinear(4, 3), PlainKANLinear(3, 2))
"""


def blocks(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_blocks_run(page: Path, tmp_path: Path) -> None:
    code = blocks(page)
    if not code:
        assert page.stem == "pykan"  # whose example is a script that is tested
        return
    done = subprocess.run(
        [sys.executable, "-c", HAVE + code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not link.startswith(("http", "mailto")):
            assert (page.parent / link).exists(), link


def test_commands_of_the_front_page_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for script in set(re.findall(r"python (?:-m kan_fast )?((?:bench|examples)/[\w/]+\.py)", text)):
        assert (ROOT / script).exists(), script


def test_the_front_page_quotes_the_report() -> None:
    import table

    result = json.loads((ROOT / "bench/results/report/report.json").read_text())
    page = (ROOT / "README.md").read_text()
    assert table.markdown(result) in page
    ours = [row["step"]["kan_fast"]["over_mlp"]["median"] for row in result["shapes"].values()]
    assert f"geometric mean {statistics.geometric_mean(ours):.2f}" in page


@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason="pdoc is not installed")
def test_the_api_pages_build(tmp_path: Path) -> None:
    import kan_fast

    done = subprocess.run(
        [sys.executable, "-m", "pdoc", "kan_fast", "kan_fast.interop.convert", "-o", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr
    page = (tmp_path / "kan_fast.html").read_text()
    for name in kan_fast.__all__:
        found = getattr(kan_fast, name)
        of_module = tmp_path / (getattr(found, "__name__", name).replace(".", "/") + ".html")
        assert f'id="{name}"' in page or of_module.exists(), name
