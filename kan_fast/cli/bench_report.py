"""What `kan-fast bench` found, as one HTML page without anything beside it, Markdown and JSON."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
#: in this order, colour and mark, as far as they were found: ours filled, theirs hollow
_STYLES = {
    "kan_fast": ("#1f6feb", "o"),
    "accelerated": ("#54aeff", "o"),
    "accelerated efficient-kan": ("#bf8700", "o"),
    "accelerated pykan": ("#8250df", "o"),
    "accelerated fast-kan": ("#2da44e", "o"),
    "accelerated ChebyKAN": ("#bf3989", "o"),
    "plain PyTorch": ("#54aeff", "s"),
    "efficient-kan": ("#bf8700", "s"),
    "pykan": ("#8250df", "s"),
    "inkan": ("#cf222e", "s"),
    "fast-kan": ("#2da44e", "s"),
    "ChebyKAN": ("#bf3989", "s"),
    "compiled mlp": ("#000000", "^"),
    "compiled plain PyTorch": ("#54aeff", "^"),
    "compiled efficient-kan": ("#bf8700", "^"),
    "compiled fast-kan": ("#2da44e", "^"),
}


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


def _present(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Libraries of any row, in the order of the plots."""
    found = {title for row in rows for title in row["step"]}
    return [title for title in _STYLES if title in found]


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    # without the prologue of a file of its own
    return text.getvalue()[text.getvalue().index("<svg") :]


def _figure(columns: int, width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(
        1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False
    )


def _marks(title: str) -> dict[str, Any]:
    """Arguments of a plot."""
    colour, mark = _STYLES[title]
    ours = title.startswith(("kan_fast", "accelerated"))
    return {"color": colour, "marker": mark, "label": title, "mfc": colour if ours else "none"}


def _shapes_plot(rows: dict[str, dict[str, Any]]) -> str:
    """A mark for every library, shape by shape."""
    present = _present(rows.values())
    figure, axes = _figure(1, 11, 4.6)
    at = axes[0, 0]
    for n, title in enumerate(present):
        # side by side, that none hides another
        shift = 0.7 * (n / max(1, len(present) - 1) - 0.5)
        found = [(place + shift, row["step"]) for place, row in enumerate(rows.values())]
        points = [(place, step[title]["over_mlp"]) for place, step in found if title in step]
        at.plot([p for p, _ in points], [o["median"] for _, o in points], ls="", **_marks(title))
    at.axhline(1, color="k", linewidth=1)
    for edge in range(len(rows) + 1):
        at.axvline(edge - 0.5, color="#d8dee4", linewidth=0.8)
    at.set(yscale="log", xlim=(-0.5, len(rows) - 0.5))
    at.set_xticks(range(len(rows)), list(rows), rotation=25, ha="right")
    at.set_ylabel("step over the MLP's, lower is faster")
    figure.legend(*at.get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    return _svg(figure)


def _sweeps_plot(sweeps: dict[str, dict[str, dict[str, Any]]]) -> str:
    figure, axes = _figure(len(sweeps), 2.8, 3.7)
    for at, (question, points) in zip(axes[0], sweeps.items(), strict=True):
        for title in _present(points.values()):
            line = [(int(n), p["step"][title]) for n, p in points.items() if title in p["step"]]
            over = [step["over_mlp"]["median"] for _, step in line]
            at.plot([n for n, _ in line], over, ls="-", ms=3, **_marks(title))
        floors = [p["floor"] for p in points.values()]
        at.plot([int(n) for n in points], floors, "k:", label="floor: terms that are not zero")
        at.axhline(1, color="k", linewidth=1)
        at.set(xlabel=question, yscale="log")
        if question != "spline_order":
            at.set_xscale("log")
        at.set_xticks([int(n) for n in points], list(points))
        at.minorticks_off()
    axes[0, 0].set_ylabel("step over the MLP's")
    known = axes[0, 0].get_legend_handles_labels()
    figure.legend(*known, fontsize="small", ncols=5, loc="outside lower center")
    return _svg(figure)


def _roofline_plot(rows: dict[str, dict[str, Any]]) -> str:
    """What kernels do of useful work beside what the products of this machine could."""
    figure, axes = _figure(1, 11, 3.8)
    at = axes[0, 0]
    places = range(len(rows))
    for key, label, mark in (
        ("gemm_gflops", "GEMM of that size", "k_"),
        ("forward_gflops", "forward, useful work", "o"),
        ("step_gflops", "step, useful work", "s"),
    ):
        at.plot(places, [row[key] for row in rows.values()], mark, label=label, markersize=9)
    at.set_xticks(list(places), list(rows), rotation=25, ha="right")
    at.set(ylabel="GFLOP/s", ylim=(0, None))
    at.legend(fontsize="small")
    return _svg(figure)


def _tables(result: dict[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Heads and cells of every table, by its title."""
    shapes = result["shapes"]
    present = _present(shapes.values())
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
            over = found["over_mlp"]
            cells.append(f"{over['median']:.2f} ({over['low']:.2f} to {over['high']:.2f})")
            peaks.append(f"{row['peak_bytes'][library] / 2**20:.2f}")
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
        "in another order every round; medians of the ratios of a round, quartiles in brackets. "
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
        "The most that a step allocates, in MiB, and kan_fast's largest error against float64 over "
        "the largest output.",
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


def _html(result: dict[str, Any], sweeps: dict[str, Any]) -> str:
    plots = {
        "steps": _shapes_plot(result["shapes"]),
        "sweeps": _sweeps_plot(sweeps),
        "kernels": _roofline_plot(result["kernels"]),
    }
    tables = _tables(result)
    parts = []
    for key, (title, text) in _TEXT.items():
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>")
        parts.append(plots.get(key, ""))
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


def _markdown(result: dict[str, Any]) -> str:
    lines = [f"# kan_fast {__version__}: how fast on this machine", ""]
    lines += [f"- {key}: {value}" for key, value in _facts(result).items()]
    for key, (head, rows) in _tables(result).items():
        title, text = _TEXT[key]
        lines += ["", f"## {title}", "", text, ""]
        lines += ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    if left_out := [f"- {line}" for line in _left_out(result)]:
        lines += ["", "## Left out", "", *left_out]
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `report.html`, `report.md` and `report.json`; their paths.

    Args:
        result: "machine", "commit", "shapes", "sweep QUESTION" of every question and "kernels", as
            `kan_fast.cli.bench` makes them.
    """
    sweeps = {k.removeprefix("sweep "): v for k, v in result.items() if k.startswith("sweep ")}
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": _html(result, sweeps),
        "report.md": _markdown(result),
        "report.json": json.dumps(result, indent=1) + "\n",
    }
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [folder / file for file in texts]
