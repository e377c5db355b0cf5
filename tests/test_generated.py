"""Generated layers: any shape, stride, dtype, grid, order, derivative and number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from cases import make_case, strided
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import compare, compare_contractions, contraction_doubts

from kan_fast.spec import ACTIVATIONS, MAX_DERIVATIVE

#: KAN_FAST_EXAMPLES=10000 is a long run
EXAMPLES = int(os.environ.get("KAN_FAST_EXAMPLES", "80"))
DTYPES = [torch.float32, torch.float64]
ALL_DTYPES = [*DTYPES, torch.bfloat16, torch.float16]
STRIDES = ["contiguous", "transposed", "sliced", "offset", "expanded"]


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@given(
    rows=st.integers(0, 400),
    in_features=st.integers(1, 40),
    out_features=st.integers(1, 90),
    grid_size=st.integers(1, 70),
    order=st.integers(0, 7),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(ALL_DTYPES),
    knots=st.sampled_from(["uniform", "per-feature"]),
    threads=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_anything(
    rows: int, in_features: int, out_features: int, grid_size: int, order: int, seed: int,
    dtype: torch.dtype, knots: str, threads: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    with threads_of_torch(threads):
        compare(
            make_case(rows, in_features, out_features, grid_size, order, dtype=dtype, knots=knots)
        )


@given(
    rows=st.integers(0, 300),
    in_features=st.integers(1, 30),
    out_features=st.integers(1, 70),
    grid_size=st.integers(1, 40),
    order=st.integers(0, 7),
    derivative=st.integers(0, MAX_DERIVATIVE),
    activation=st.sampled_from(list(ACTIVATIONS)),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from(DTYPES),
    knots=st.sampled_from(["uniform", "per-feature"]),
    strides=st.tuples(*[st.sampled_from(STRIDES)] * 3),
    scaler=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_contraction(
    rows: int, in_features: int, out_features: int, grid_size: int, order: int, derivative: int,
    activation: str, seed: int, dtype: torch.dtype, knots: str, strides: tuple[str, str, str],
    scaler: bool, threads: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    case = make_case(
        rows, in_features, out_features, grid_size, order, activation, dtype, knots, scaler
    )
    case.x = strided(case.x, strides[0])
    u = strided(torch.randn(rows, out_features, dtype=dtype), strides[1])
    v = strided(torch.randn(rows, in_features, dtype=dtype), strides[2])
    with threads_of_torch(threads):
        doubt = contraction_doubts(case, u, v, derivative)
        compare_contractions(case, u, v, derivative, doubt)
