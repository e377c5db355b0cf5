"""The plots of `kan-fast bench`, each an SVG."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from typing import Any

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
    "mlp": ("#000000", "_"),
    "compiled mlp": ("#000000", "^"),
    "compiled plain PyTorch": ("#54aeff", "^"),
    "compiled efficient-kan": ("#bf8700", "^"),
    "compiled fast-kan": ("#2da44e", "^"),
}


def present(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Libraries of any row beside the MLP, in the order of the plots."""
    return _ordered({title for row in rows for title in row["step"]} - {"mlp"})


def _ordered(titles: Collection[str]) -> list[str]:
    return [title for title in _STYLES if title in titles]


def _svg(figure: Any) -> str:
    text = io.StringIO()
    # without a date, that equal figures make equal files
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _figure(columns: int, width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(
        1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False
    )


def _ratios(at: Any) -> None:
    """A logarithmic axis upwards, with numbers that can be read."""
    from matplotlib.ticker import LogLocator

    at.set_yscale("log")
    at.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    at.yaxis.set_major_formatter("{x:g}")


def _marks(title: str) -> dict[str, Any]:
    """Arguments of a plot."""
    colour, mark = _STYLES[title]
    ours = title.startswith(("kan_fast", "accelerated"))
    return {"color": colour, "marker": mark, "label": title, "mfc": colour if ours else "none"}


def steps(rows: dict[str, dict[str, Any]]) -> str:
    """Step over the MLP's, of every library and shape."""
    ratios = {
        at: {title: row["step"][title]["over_mlp"]["median"] for title in present([row])}
        for at, row in rows.items()
    }
    return _by_shape(ratios, "step over the MLP's, lower is faster", one=True)


def memory(rows: dict[str, dict[str, Any]]) -> str:
    """Peak of a step, of every library and shape."""
    peaks = {
        at: {title: found / 2**20 for title, found in row["peak_bytes"].items()}
        for at, row in rows.items()
    }
    return _by_shape(peaks, "peak of a step, MiB")


def _by_shape(values: dict[str, dict[str, float]], label: str, one: bool = False) -> str:
    """A mark for every library, shape by shape, and where `one` a line at 1."""
    titles = _ordered({title for row in values.values() for title in row})
    figure, axes = _figure(1, 11, 4.6)
    at = axes[0, 0]
    for n, title in enumerate(titles):
        # side by side, that none hides another
        shift = 0.7 * (n / max(1, len(titles) - 1) - 0.5)
        points = [(p + shift, row[title]) for p, row in enumerate(values.values()) if title in row]
        at.plot([p for p, _ in points], [v for _, v in points], ls="", **_marks(title))
    if one:
        at.axhline(1, color="k", linewidth=1)
    for edge in range(len(values) + 1):
        at.axvline(edge - 0.5, color="#d8dee4", linewidth=0.8)
    at.set(xlim=(-0.5, len(values) - 0.5), ylabel=label)
    _ratios(at)
    at.set_xticks(range(len(values)), list(values), rotation=25, ha="right")
    figure.legend(*at.get_legend_handles_labels(), fontsize="small", loc="outside right upper")
    return _svg(figure)


def sweeps(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Lines of every library, question by question."""
    figure, axes = _figure(len(found), 2.8, 3.7)
    for at, (question, points) in zip(axes[0], found.items(), strict=True):
        for title in present(points.values()):
            line = [(int(n), p["step"][title]) for n, p in points.items() if title in p["step"]]
            over = [step["over_mlp"]["median"] for _, step in line]
            at.plot([n for n, _ in line], over, ls="-", ms=3, **_marks(title))
        floors = [p["floor"] for p in points.values()]
        at.plot([int(n) for n in points], floors, "k:", label="floor: terms that are not zero")
        at.axhline(1, color="k", linewidth=1)
        at.set_xlabel(question)
        if question != "spline_order":
            at.set_xscale("log")
        at.set_xticks([int(n) for n in points], list(points))
        _ratios(at)
        at.minorticks_off()
    axes[0, 0].set_ylabel("step over the MLP's")
    known = axes[0, 0].get_legend_handles_labels()
    figure.legend(*known, fontsize="small", ncols=5, loc="outside lower center")
    return _svg(figure)


def roofline(rows: dict[str, dict[str, Any]]) -> str:
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
