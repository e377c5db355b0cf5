"""What of a launch depends on the shape of a layer alone: found out once for a shape, then kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from kan_fast import machine
from kan_fast.backends.triton import tiles
from kan_fast.backends.triton.arguments import bisection_steps, jit
from kan_fast.backends.triton.tiles import ceil_div

#: all that there are: left alone, the assembler spills a few to fit one more block
MAX_REGISTERS = 255
#: shapes that are kept, those of batches of every size included
_SHAPES = 4096
_Grid = tuple[int, ...]
#: the activation, and whether there are v, a scaler and a base weight: compiled into a kernel
Variant = tuple[int, bool, bool, bool]


@dataclass(frozen=True)
class OutPlan:
    """A forward.

    Args:
        tile: of `contract_out`, or of `gather_out` where the grid is large.
        shared: constants that both kernels have.
        grid, constants: of `contract_out`.
    """

    tile: tiles.OutTile | tiles.Gather
    shared: dict[str, Any]
    grid: _Grid = ()
    constants: dict[str, Any] | None = None


@dataclass(frozen=True)
class InWeightPlan:
    """A backward: `contract_in_weight`, and `unfold` where its sums are not the gradients yet.

    Args:
        gathers: whether z is that of `gather_in`, and not of `contract_in_weight`.
        splits: parts of the sums over rows, of `rows_a_split` rows.
        direct: whether the sums are the gradients.
    """

    gathers: bool
    grid: _Grid
    splits: int
    rows_a_split: int
    direct: bool
    constants: dict[str, Any]
    unfold_grid: _Grid
    unfold_constants: dict[str, Any]


def _product(precision: str) -> str:
    emulated = machine.facts().interpreter and precision in ("bf16", "fp16")
    return f"{precision}_emulated" if emulated else precision


def _numbers(shape: tiles.Shape) -> dict[str, Any]:
    """The precision, as the kernels name it."""
    dtype = torch.float64 if shape.precision == "ieee" else torch.float32
    return dict(PRECISION=_product(shape.precision), COORDINATE=jit().dtypes[dtype])


def _basis(shape: tiles.Shape, variant: Variant) -> dict[str, Any]:
    activation, has_v, _, has_base = variant
    return dict(
        ORDER=shape.spline_order, NUM_BASIS=shape.num_basis,
        STEPS=bisection_steps(shape.num_basis + shape.spline_order + 1),
        ACTIVATION=activation, HAS_V=has_v, HAS_BASE=has_base,
    )  # fmt: skip


@functools.lru_cache(maxsize=_SHAPES)
def out(shape: tiles.Shape, variant: Variant, derivative: int, generation: int) -> OutPlan:
    """The plan of a forward; `generation` is that of the tuned tiles, which it depends on."""
    _, _, has_scaler, _ = variant
    tile = tiles.for_out(shape)
    shared = dict(DERIVATIVE=derivative, **_basis(shape, variant))
    if isinstance(tile, tiles.Gather):
        return OutPlan(tile, shared)
    programs = ceil_div(shape.rows, tile.rows) * ceil_div(shape.out_features, tile.outputs)
    return OutPlan(tile, shared, (programs,), dict(
        **shared, **_numbers(shape), HAS_SCALER=has_scaler, BLOCK_R=tile.rows,
        BLOCK_O=tile.outputs, BLOCK_I=tile.columns // tile.width, WIDTH=tile.width,
        BASE_I=tile.columns, STAGES=tile.stages, num_warps=tile.warps, num_stages=1,
        maxnreg=MAX_REGISTERS,
    ))  # fmt: skip


@functools.lru_cache(maxsize=_SHAPES)
def in_weight(
    shape: tiles.Shape,
    variant: Variant,
    derivatives: tuple[int, int],
    need: tuple[bool, bool, bool, bool],
    generation: int,
) -> InWeightPlan:
    """The plan of a backward.

    Args:
        derivatives: of the basis, for z and for S.
        need: of the gradients of x, weight, scaler and base weight, which ones.
        generation: of the tuned tiles, which it depends on.
    """
    _, _, has_scaler, _ = variant
    need_in, need_weight, need_scaler, need_base = need
    need_spline = need_weight or need_scaler
    gathers = need_in and tiles.gathers(shape)
    need_in = need_in and not gathers
    tile = tiles.for_in_weight(shape)
    splits, rows_a_split = tiles.splits(shape, tile, need_spline, need_base)
    numbers = _numbers(shape)
    edges = shape.in_features * shape.out_features
    padded = tiles.power_of_two(shape.num_basis)
    block = max(1, 512 // padded)
    return InWeightPlan(
        gathers,
        (tiles.programs(shape, tile, splits, need_in, need_spline, need_base),),
        splits,
        rows_a_split,
        # with one part and nothing to multiply by
        splits == 1 and not has_scaler,
        dict(
            **_basis(shape, variant), **numbers, DERIVATIVE_IN=derivatives[0],
            DERIVATIVE_WEIGHT=derivatives[1], HAS_SCALER=has_scaler, NEED_IN=need_in,
            NEED_SPLINE=need_spline, NEED_BASE=need_base, IN_R=tile.in_rows,
            IN_I=tile.in_columns // tile.width, IN_K=tile.in_step, IN_STAGES=tile.in_stages,
            WEIGHT_O=tile.weight_outputs, WEIGHT_I=tile.weight_columns // tile.width,
            WEIGHT_K=tile.weight_step, WIDTH=tile.width, num_warps=tile.warps, num_stages=1,
            maxnreg=MAX_REGISTERS,
        ),
        (ceil_div(edges, block),),
        dict(
            NUM_BASIS=shape.num_basis, PADDED=padded, HAS_SCALER=has_scaler,
            NEED_WEIGHT=need_weight, NEED_SCALER=need_scaler, NEED_BASE=need_base,
            COORDINATE=numbers["COORDINATE"], BLOCK_E=block, num_warps=4,
        ),
    )  # fmt: skip
