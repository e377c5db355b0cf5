"""Which tile a shape gets: every shape has one, and sums are split into parts that cover it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kan_fast.backends.triton import tiles
from kan_fast.spec import Gpu

H100 = Gpu("NVIDIA H100", (9, 0), 132)


@st.composite
def shapes(draw: st.DrawFn) -> tiles.Shape:
    gpu = draw(st.sampled_from([H100, Gpu("A100", (8, 0), 108), Gpu("RTX", (8, 9), 128)]))
    precision = draw(st.sampled_from(sorted(tiles.table("sm_90").gather_from)))
    rows = draw(st.integers(1, 2**33))
    features = st.integers(1, 5000)
    num_basis = draw(st.integers(2, 210))
    return tiles.Shape(precision, rows, draw(features), draw(features), num_basis, 1, gpu)


@given(shapes())
def test_every_shape_has_a_tile(shape: tiles.Shape) -> None:
    out, backward = tiles.for_out(shape), tiles.for_in_weight(shape)
    assert isinstance(out, tiles.Gather) == tiles.gathers(shape)
    if not tiles.gathers(shape):
        assert out.columns % out.width == 0
    assert backward.in_columns % backward.width == backward.weight_columns % backward.width == 0
    for spline, base in [(True, True), (False, True), (True, False), (False, False)]:
        count, rows = tiles.splits(shape, backward, spline, base)
        # every row in one part, none empty
        assert (count - 1) * rows < shape.rows <= count * rows
        edges = shape.in_features * shape.out_features * (shape.num_basis + 1)
        size = 8 if shape.precision == "ieee" else 4
        assert count == 1 or count * edges * size <= 2 * tiles.WORKSPACE_BYTES
        programs = tiles.programs(shape, backward, count, True, spline, base)
        assert programs == tiles.programs(shape, backward, count, True, False, False) + count * sum(
            tiles._weight_programs(shape, backward, spline, base)
        )


@pytest.mark.parametrize(
    "capability, name",
    [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90"), ((12, 0), "sm_100")],
)
def test_the_table_of_a_gpu(capability: tuple[int, int], name: str) -> None:
    assert tiles.architecture(Gpu("x", capability, 100)) == name


def test_wide_layers_get_large_tiles_and_few_rows_small_ones() -> None:
    def tile(rows: int, width: int) -> tiles.OutTile:
        return tiles.for_out(tiles.Shape("tf32", rows, width, width, 8, 3, H100))

    assert tile(65536, 1024).outputs >= 128
    assert tile(1024, 64).rows * tile(1024, 64).outputs < 128 * 128
    assert tile(100000, 8).outputs == 16
