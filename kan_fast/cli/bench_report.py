"""What `kan-fast bench` found, as one HTML page without anything beside it, Markdown and JSON."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from kan_fast.cli import bench_plots, timing
from kan_fast.version import __version__

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { color: #59636e; } dd { margin: 0; }
"""


def print_row(row: dict[str, Any], mlp_widths: Sequence[int]) -> None:
    """The table of `--mine`, and the answer in a sentence."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{row['shape']}: training step, on this machine")
    for title in ("", "step, ms", "over the MLP", "forward", "MiB"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    for title, found in row["step"].items():
        over = found["over_mlp"]
        label = f"MLP {'-'.join(map(str, mlp_widths))}" if title == "mlp" else title
        table.add_row(
            label,
            f"{found['milliseconds']:.3f}",
            f"{over['median']:.2f} ({over['low']:.2f}–{over['high']:.2f})",
            f"{row['forward'][title]['milliseconds']:.3f}",
            f"{row['peak_bytes'][title] / 2**20:.1f}",
        )
    console = Console()
    console.print(table)
    plain = row["step"]["plain PyTorch"]["over_kan_fast"]["median"]
    mlp = row["step"]["kan_fast"]["over_mlp"]["median"]
    console.print(
        f"A step of this KAN takes {mlp:.2f} times that of the MLP with as many parameters, and is "
        f"{plain:.1f} times as fast as in plain PyTorch. Error against float64: {row['error']:.1e} "
        "of the largest output."
    )
    for title, why in row.get("left_out", {}).items():
        console.print(f"{title} is left out: {why}")


def _tables(result: dict[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Heads and cells of every table, by its title."""
    shapes = result["shapes"]
    present = bench_plots.present(shapes.values())
    steps, memory = [], []
    for title, row in shapes.items():
        cells = [title, f"{row['step']['mlp']['milliseconds']:.2f} ms"]
        peaks = [title, f"{row['peak_bytes']['mlp'] / 2**20:.2f}"]
        for library in present:
            found = row["step"].get(library)
            if found is None:
                cells.append("–")
                peaks.append("–")
                continue
            cells.append(timing.spread(found["over_mlp"]))
            peak = row["peak_bytes"].get(library)
            peaks.append("–" if peak is None else f"{peak / 2**20:.2f}")
        steps.append(cells)
        memory.append([*peaks, f"{row['error']:.1e}"])
    kernels = [
        [
            title,
            *[f"{row[k]:.1f}" for k in ("gemm_gflops", "forward_gflops", "step_gflops")],
            *[f"{row[k]:.2f}" for k in ("forward_over_floor", "step_over_floor")],
        ]
        for title, row in result["kernels"].items()
    ]
    return {
        "steps": (["rows widths grid", "MLP step", *present], steps),
        "memory": (["rows widths grid", "MLP", *present, "error against float64"], memory),
        "kernels": (
            ["layer", "GEMM GFLOP/s", "forward", "step", "forward over floor", "step over floor"],
            kernels,
        ),
    }


_TEXT = {
    "steps": (
        "Training step over the MLP with as many parameters",
        "Forward, backward, gradients of the input and of every parameter. Libraries take turns, "
        "in another order every round, with their own data in the caches; medians of the ratios of "
        "a round, quartiles in brackets. "
        "Below 1 the KAN is the faster network. fast-kan and ChebyKAN have grid_size + "
        "spline_order functions an input, so as many parameters.",
    ),
    "sweeps": (
        "What it depends on",
        "One thing varies at a time; the rest stays at 1024 rows, 64-64, grid_size 5, spline_order "
        "3. The dotted line is the share of a layer's terms that are not zero.",
    ),
    "memory": (
        "Memory and accuracy",
        "The most that a step allocates, in MiB, as torch's profiler sees it (of compiled models "
        "it sees a part), and kan_fast's largest error against float64 over the largest output.",
    ),
    "kernels": (
        "Kernels and their floor",
        "Useful work, that of the k + 2 terms of an input that are not zero, beside the rate of a "
        "matrix product of the layer's size. 1 of the floor is a kernel as good as that product.",
    ),
}


def _facts(result: dict[str, Any]) -> dict[str, str]:
    machine = result["machine"]
    flat = {k: str(v) for k, v in machine.items() if not isinstance(v, dict)}
    return {"commit": result["commit"], **flat}


def _left_out(result: dict[str, Any]) -> list[str]:
    """A line for everything that could not be measured, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for section, rows in result.items():
        if section == "shapes" or section.startswith("sweep "):
            for at, row in rows.items():
                for title, why in row.get("left_out", {}).items():
                    reasons.setdefault((title, why), []).append(at)
    return [f"{title} ({', '.join(at)}): {why}" for (title, why), at in reasons.items()]


def _plots(result: dict[str, Any]) -> dict[str, str]:
    """An SVG for every section that has one."""
    prefix = "sweep "
    found = {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)}
    return {
        "steps": bench_plots.steps(result["shapes"]),
        "sweeps": bench_plots.sweeps(found),
        "memory": bench_plots.memory(result["shapes"]),
        "kernels": bench_plots.roofline(result["kernels"]),
    }


def _html(result: dict[str, Any], plots: dict[str, str]) -> str:
    tables = _tables(result)
    parts = []
    for key, (title, text) in _TEXT.items():
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>")
        # without the prologue of a file of its own
        parts.append(plots[key][plots[key].index("<svg") :] if key in plots else "")
        if key in tables:
            head, rows = tables[key]
            lines = ["<tr>" + "".join(f"<th>{html.escape(c)}</th>" for c in head) + "</tr>"]
            lines += [
                "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
                for row in rows
            ]
            parts.append(f'<div class="wide"><table>{"".join(lines)}</table></div>')
    if lines := [f"<li>{html.escape(line)}</li>" for line in _left_out(result)]:
        parts.append(f"<h2>Left out</h2><ul>{''.join(lines)}</ul>")
    facts = "".join(
        f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in _facts(result).items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>kan_fast {__version__}: how fast</title><style>{_STYLE}</style>"
        f"<h1>kan_fast {__version__}: how fast on this machine</h1><dl>{facts}</dl>"
        + "".join(parts)
        + "</html>\n"
    )


def _markdown(result: dict[str, Any], plots: Collection[str]) -> str:
    lines = [f"# kan_fast {__version__}: how fast on this machine", ""]
    lines += [f"- {key}: {value}" for key, value in _facts(result).items()]
    tables = _tables(result)
    for key, (title, text) in _TEXT.items():
        lines += ["", f"## {title}", "", text]
        if key in plots:
            lines += ["", f"![{title}]({key}.svg)"]
        if key in tables:
            head, rows = tables[key]
            lines += ["", "| " + " | ".join(head) + " |"]
            lines += ["| --- " + "| ---: " * (len(head) - 1) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
    if left_out := [f"- {line}" for line in _left_out(result)]:
        lines += ["", "## Left out", "", *left_out]
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `report.html`, `report.json`, and `report.md` with its plots; their paths.

    Args:
        result: "machine", "commit", "shapes", "sweep QUESTION" of every question and "kernels", as
            `kan_fast.cli.bench` makes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = _plots(result)
    texts = {
        "report.html": _html(result, plots),
        "report.md": _markdown(result, plots),
        "report.json": json.dumps(result, indent=1) + "\n",
        **{f"{key}.svg": svg for key, svg in plots.items()},
    }
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [folder / file for file in texts]
