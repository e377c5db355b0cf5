"""A Markdown table of one committed run: python bench/table.py bench/results/FILE.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kan_fast.cli import timing


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"


def lines(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def suite(result: dict) -> str:
    """Rows of `cpu_suite.py` or `pinn.py`: median ratio to the MLP and its quartiles."""
    names = list(dict.fromkeys(n for row in result["rows"] for n in row["over_mlp"]))
    measure = result.get("measure", "step")
    head = ["rows, widths, grid", f"MLP {measure}", *[f"{n} / MLP" for n in names]]
    return lines(
        head,
        [
            [
                row["shape"],
                f"{row['mlp_seconds'] * 1e3:.2f} ms",
                *[_spread(row["over_mlp"].get(n)) for n in names],
            ]
            for row in result["rows"]
        ],
    )


def cases(result: dict) -> str:
    """Rows of `cases.py`: one line an entrant."""
    rows = []
    for row in result["rows"]:
        rows.append([row["case"], row["base"], f"{row['base_seconds'] * 1e3:.3g} ms", "1"])
        rows += [["", n, "", _spread(r)] for n, r in row["over_base"].items()]
    return lines(["case", "entrant", "time", "over the first"], rows)


def kernels(result: dict) -> str:
    """Rows of `kernels.py`: each direction's time, rate and distance from the floor."""
    head = ["layer"]
    for name in ("forward", "backward"):
        head += [f"{name} ms", "GFLOP/s", "GEMM's", "over floor"]
    rows = []
    for row in result["rows"]:
        cells = [row["layer"]]
        for name in ("forward", "backward"):
            r = row[name]
            cells += [f"{r['seconds'] * 1e3:.3f}", f"{r['gflops']:.0f}"]
            cells += [f"{r['gemm_gflops']:.0f}", f"{r['over_floor']:.2f}"]
        rows.append(cells)
    return lines(head, rows)


def where(result: dict) -> str:
    """Rows of `where.py`."""
    head = [
        "rows, widths, grid",
        "step ms",
        "in kernels",
        "floor",
        "step / floor",
        "kernels / floor",
    ]
    return lines(
        head,
        [
            [
                row["shape"],
                *[f"{row[f'{n}_seconds'] * 1e3:.3f}" for n in ("step", "kernel", "floor")],
                *[f"{row[f'{n}_over_floor']:.2f}" for n in ("step", "kernels")],
            ]
            for row in result["rows"]
        ],
    )


#: columns of the front page's table
FRONT = (
    "accelerated efficient-kan",
    "efficient-kan",
    "compiled efficient-kan",
    "fast-kan",
    "inkan",
    "pykan",
)


def report(result: dict) -> str:
    """Shapes of `kan-fast bench`: what the front page quotes."""
    head = ["rows, widths, grid", "MLP step", "kan_fast / MLP", *FRONT]
    rows = []
    for shape, row in result["shapes"].items():
        step = row["step"]
        cells = [shape, f"{step['mlp']['milliseconds']:.2f} ms"]
        cells.append(timing.spread(step["kan_fast"]["over_mlp"]))
        for name in FRONT:
            over = step[name]["over_mlp"]["median"] if name in step else None
            cells.append("–" if over is None else f"{over:.2f}" if over < 10 else f"{over:.0f}")
        rows.append(cells)
    return lines(head, rows)


def markdown(result: dict) -> str:
    """The table that fits the kind of result."""
    if "shapes" in result:
        return report(result)
    kinds = {"case": cases, "layer": kernels, "floor_seconds": where, "over_mlp": suite}
    return next(table for key, table in kinds.items() if key in result["rows"][0])(result)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
