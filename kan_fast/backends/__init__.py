"""Backends, in order of preference. A new one is a file here and a line below."""

from __future__ import annotations

from types import ModuleType

from kan_fast.backends import reference
from kan_fast.backends.cpu import backend as native
from kan_fast.backends.cuda import backend as cuda
from kan_fast.backends.triton import backend as triton

#: each module offers `name`, `why_not(problem, facts)`, `takes_narrow_inputs` and
#: `kan_linear(...)`; those with kernels also `kernels(weight, product_dtype)` for `autograd.py`,
#: and some `gram(...)` and `dense_kernels(weight, product_dtype)`
BACKENDS: dict[str, ModuleType] = {
    module.name: module for module in (native, triton, cuda, reference)
}
