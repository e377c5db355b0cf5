"""Packed weights for inference a few rows at a time.

Folding and transposing the weights costs several times a layer on one row, so without gradients
the packed form is kept: while the parameters are the same memory with the same version counters,
and while samples of their values agree (edits through `.data` do not count as a version).
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan_fast.backends import native
from kan_fast.machine import extension
from kan_fast.spec import BasisSpec

#: up to here reading packed weights a row at a time beats packing them for all rows
MOST_ROWS = 16


class _Entry(NamedTuple):
    weight: weakref.ref
    spec: tuple[int, str]
    state: tuple[int, ...]
    dtype: torch.dtype
    sizes: tuple[int, int]
    packed: Any


_entries: dict[int, _Entry] = {}


def _state(
    knots: Tensor, weight: Tensor, scaler: Tensor | None, base: Tensor | None
) -> tuple[int, ...]:
    """Where the parameters are and how often torch saw them change.

    Raises:
        RuntimeError: an inference tensor among them; it has no version.
    """
    return (
        knots.data_ptr(),
        knots._version,
        weight.data_ptr(),
        weight._version,
        0 if scaler is None else scaler.data_ptr(),
        0 if scaler is None else scaler._version,
        0 if base is None else base.data_ptr(),
        0 if base is None else base._version,
    )


def lookup(
    x: Tensor,
    knots: Tensor,
    weight: Tensor,
    scaler: Tensor | None,
    base: Tensor | None,
    spline_order: int,
    activation: str,
) -> Tensor | None:
    """The layer on `x`, or None when there is nothing packed that fits; never packs.

    Everything that `kan_linear` would check is either in the entry or checked here.
    """
    entry = _entries.get(id(weight))
    if entry is None or entry.weight() is not weight or type(x) is not Tensor:
        return None
    shape = x.shape
    in_features, out_features = entry.sizes
    if len(shape) != 2 or shape[1] != in_features or not 0 < shape[0] <= MOST_ROWS:
        return None
    if x.dtype is not entry.dtype or not x.is_cpu or entry.spec != (spline_order, activation):
        return None
    try:
        if _state(knots, weight, scaler, base) != entry.state:
            return None
    except RuntimeError:
        return None
    y = x.new_empty((shape[0], out_features))
    fits = entry.packed.out(shape[0], x.data_ptr(), *x.stride(), y.data_ptr())
    return y if fits else None


def out(
    x: Tensor,
    knots: Tensor,
    weight: Tensor,
    scaler: Tensor | None,
    base: Tensor | None,
    basis: BasisSpec,
) -> Tensor | None:
    """The layer on `x` `[rows, in_features]`, packing the weights first where that is new.

    Returns None where packing does not apply: many rows, or parameters whose changes cannot be
    seen.
    """
    spec = (basis.spline_order, basis.activation)
    parameters = (knots, weight, scaler, base)
    y = lookup(x, *parameters, *spec)
    if y is not None:
        return y
    if not 0 < x.shape[0] <= MOST_ROWS or weight.numel() == 0:
        return None
    if any(t is not None and (t.is_inference() or not t.is_contiguous()) for t in parameters):
        return None
    numbers, _alive = native.layer_numbers(x, None, *parameters, basis)
    key = id(weight)
    _entries[key] = _Entry(
        weakref.ref(weight, lambda _: _entries.pop(key, None)),
        spec,
        _state(*parameters),
        x.dtype,
        (weight.shape[1], weight.shape[0]),
        extension().Packed(*numbers),
    )
    return lookup(x, *parameters, *spec)


def clear() -> None:
    """Frees all packed weights."""
    _entries.clear()
