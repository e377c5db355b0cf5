"""A Markdown table of one run of a suite: python bench/table.py bench/results/FILE.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def markdown(result: dict) -> str:
    """Rows of the suite with the median ratio to the MLP and its quartiles."""
    rows = result["rows"]
    names = list(rows[0]["over_mlp"])
    lines = [
        "| rows, widths, grid | MLP step | " + " | ".join(f"{n} / MLP" for n in names) + " |",
        "| --- | --- |" + " --- |" * len(names),
    ]
    for row in rows:
        cells = [
            f"{r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
            for r in (row["over_mlp"][n] for n in names)
        ]
        time = f"{row['mlp_seconds'] * 1e3:.2f} ms"
        lines.append(f"| {row['shape']} | {time} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
