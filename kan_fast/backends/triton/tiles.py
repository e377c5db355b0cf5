"""Which tile a Triton kernel runs with: tuned ones from disk, else the shipped tables.

A table (`tiles/*.json`) lists for an architecture and a precision the tiles that compile without
spilling registers, the best first; the first that fits the layer and fills the GPU is taken. A
search (`kan-fast tune`) writes what it finds to the cache of `tuned.py`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any, NamedTuple

from kan_fast.backends.triton import tuned
from kan_fast.spec import Gpu

#: at most so much memory for the parts of a split sum
WORKSPACE_BYTES = 64 << 20
#: a part of a split sum has at least so many rows
LEAST_ROWS_A_SPLIT = 256


class Shape(NamedTuple):
    """What the choice depends on."""

    precision: str
    rows: int
    in_features: int
    out_features: int
    num_basis: int
    spline_order: int
    gpu: Gpu


@dataclass(frozen=True)
class OutTile:
    """Tile of `contract_out`: rows by outputs, `columns` of the implicit matrix a step.

    Args:
        width: basis functions that are made at a time, 4 or 8; a divisor of `columns`.
        stages: of the pipeline of the base branch.
    """

    rows: int
    outputs: int
    columns: int
    warps: int
    stages: int
    width: int = 8


@dataclass(frozen=True)
class InWeightTile:
    """Tiles of `contract_in_weight`: of z (rows by columns, `in_step` outputs a step) and of S
    (outputs by columns, `weight_step` rows a step)."""

    in_rows: int
    in_columns: int
    in_step: int
    in_stages: int
    weight_outputs: int
    weight_columns: int
    weight_step: int
    warps: int
    width: int = 8


@dataclass(frozen=True)
class Gather:
    """Tile of the kernels that read only the weights a sample touches."""

    rows: int = 32
    outputs: int = 32
    warps: int = 4


GATHER = Gather()
KINDS = {"out": OutTile, "in_weight": InWeightTile}


@dataclass(frozen=True)
class Table:
    """The shipped choices of an architecture.

    Args:
        gather_from: number of basis functions from which gathering takes less time, by precision.
        tiles: kind ("out", "in_weight"), precision, then tiles, the best first.
    """

    gather_from: dict[str, int]
    tiles: dict[str, dict[str, tuple[Any, ...]]]


@functools.cache
def architectures() -> tuple[str, ...]:
    """Names of the shipped tables; their folder is read once."""
    folder = resources.files("kan_fast.backends.triton") / "tiles"
    return tuple(sorted(f.name.removesuffix(".json") for f in folder.iterdir() if "json" in f.name))


@functools.cache
def table(architecture: str) -> Table:
    """The shipped table of an architecture, such as "sm_90"."""
    file = resources.files("kan_fast.backends.triton") / "tiles" / f"{architecture}.json"
    data = json.loads(file.read_text())
    return Table(
        data["gather_from"],
        {
            kind: {
                precision: tuple(make(**tile) for tile in tiles)
                for precision, tiles in data[kind].items()
            }
            for kind, make in KINDS.items()
        },
    )


@functools.cache
def architecture(gpu: Gpu) -> str:
    """The table for a GPU: of the newest architecture that is not newer than it."""
    if gpu.interpreter:
        return "interpreter"
    known = sorted(int(a.removeprefix("sm_")) for a in architectures() if a.startswith("sm_"))
    older = [a for a in known if a <= gpu.capability[0] * 10 + gpu.capability[1]]
    return f"sm_{max(older, default=known[0])}"


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def width(num_basis: int) -> int:
    """Basis functions to make at a time: of 8 and 4 the one that pads less."""
    return 4 if -num_basis % 4 < -num_basis % 8 and num_basis <= 12 else 8


def gathers(shape: Shape) -> bool:
    """Whether the grid is so large that most of a dense product would be zeros."""
    return shape.num_basis >= table(architecture(shape.gpu)).gather_from[shape.precision]


def for_out(shape: Shape) -> OutTile | Gather:
    """The tile of the forward."""
    if gathers(shape):
        return replace(GATHER, outputs=min(GATHER.outputs, power_of_two(shape.out_features)))
    return _choose("out", shape)


def for_in_weight(shape: Shape) -> InWeightTile:
    """The tile of the backward."""
    return _choose("in_weight", shape)


def candidates(kind: str, shape: Shape) -> list[Any]:
    """All shipped tiles for a kind, wide as the basis asks for, the best first."""
    listed = table(architecture(shape.gpu)).tiles[kind][shape.precision]
    return [replace(tile, width=width(shape.num_basis)) for tile in listed]


def _choose(kind: str, shape: Shape) -> Any:
    """The tile of an enclosing `tuned.using`, else the tuned one, else that of the rule."""
    forced = tuned.forced(kind)
    if forced is not None:
        return forced
    found = tuned.lookup(kind, shape, KINDS[kind].__dataclass_fields__.keys())
    return by_rule(kind, shape) if found is None else KINDS[kind](**found)


def by_rule(kind: str, shape: Shape) -> Any:
    """The first tile that is not much wider than the layer and gives every multiprocessor work."""
    listed = candidates(kind, shape)
    outputs = max(16, power_of_two(shape.out_features))
    fitting = [t for t in listed if (t.outputs if kind == "out" else t.weight_outputs) <= outputs]
    for tile in fitting:
        if kind == "out":
            count = ceil_div(shape.rows, tile.rows) * ceil_div(shape.out_features, tile.outputs)
        else:
            count = ceil_div(shape.rows, tile.in_rows) * ceil_div(
                shape.in_features, tile.in_columns // tile.width
            )
        if count >= shape.gpu.multiprocessors:
            return tile
    return (fitting or listed)[-1]


def ceil_div(n: int, step: int) -> int:
    """How many steps cover n."""
    return -(-n // step)


def _weight_programs(
    shape: Shape, tile: InWeightTile, need_spline: bool, need_base: bool
) -> tuple[int, int]:
    """Tiles of the spline part and of the base part of S, for one part of the rows."""
    across = ceil_div(shape.out_features, tile.weight_outputs)
    inputs = tile.weight_columns // tile.width
    spline = across * ceil_div(shape.in_features, inputs) * ceil_div(shape.num_basis, tile.width)
    base = across * ceil_div(shape.in_features, tile.weight_columns)
    return spline * need_spline, base * need_base


def splits(shape: Shape, tile: InWeightTile, need_spline: bool, need_base: bool) -> tuple[int, int]:
    """Parts of the sum over rows, and rows a part.

    Enough parts to fill the GPU twice, within `WORKSPACE_BYTES`. A function of the shape alone, so
    that repeats add in the same order.
    """
    one = sum(_weight_programs(shape, tile, need_spline, need_base))
    if one == 0:
        return 1, max(1, shape.rows)
    size = 8 if shape.precision == "ieee" else 4
    part = shape.in_features * shape.out_features * (shape.num_basis + 1) * size
    wanted = min(
        ceil_div(2 * shape.gpu.multiprocessors, one),
        shape.rows // LEAST_ROWS_A_SPLIT,
        WORKSPACE_BYTES // part,
    )
    rows = ceil_div(ceil_div(shape.rows, max(1, wanted)), tile.weight_step) * tile.weight_step
    return ceil_div(shape.rows, rows), rows


def programs(
    shape: Shape,
    tile: InWeightTile,
    num_splits: int,
    need_in: bool,
    need_spline: bool,
    need_base: bool,
) -> int:
    """Size of the grid of `contract_in_weight`."""
    of_weight = sum(_weight_programs(shape, tile, need_spline, need_base)) * num_splits
    inputs = tile.in_columns // tile.width
    of_in = ceil_div(shape.rows, tile.in_rows) * ceil_div(shape.in_features, inputs)
    return of_weight + of_in * need_in


def as_json(tile: Any) -> dict[str, int]:
    """The tile as what `KINDS` can be made from."""
    return asdict(tile)
