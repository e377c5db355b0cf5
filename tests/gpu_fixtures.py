"""Fixtures of the tests for a GPU: which backend is asked for, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from gpu_tools import DEVICE, HAS_GPU

from kan_fast import envs, machine
from kan_fast.ops import plan as plans


@pytest.fixture(params=["triton", "cuda"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A backend that every layer is asked to run on."""
    facts = machine.facts()
    if request.param == "triton" and facts.triton is None:
        pytest.skip(f"Triton: {facts.triton_error}")
    if request.param == "cuda" and HAS_GPU and not facts.cuda:
        pytest.skip("kan_fast was built without CUDA kernels")
    if request.param == "cuda" and facts.extension is None:
        pytest.skip(f"kan_fast._C is not loaded: {facts.extension_error}")
    if not HAS_GPU:
        if request.param == "cuda":
            request.getfixturevalue("emulation")
        emulating = replace(facts, cuda_emulated=True)
        monkeypatch.setattr(machine, "facts", lambda: emulating)
    plans._plan.cache_clear()
    monkeypatch.setattr(envs, "BACKEND", request.param)
    yield request.param
    plans._plan.cache_clear()


def _state() -> dict[str, Any]:
    found = {
        "backend": envs.BACKEND,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled(DEVICE),
        "gradients": torch.is_grad_enabled(),
        "process group": torch.distributed.is_initialized(),
    }
    if HAS_GPU:
        found |= {
            "waiting": torch.cuda.get_sync_debug_mode(),
            "memory": torch.cuda.get_per_process_memory_fraction(),
            "stream": torch.cuda.current_stream().cuda_stream,
            "device": torch.cuda.current_device(),
        }
    return found


@pytest.fixture
def nothing_leaks() -> Iterator[None]:
    """What a test sets, it sets back: other tests of the process would run on something else."""
    before = _state()
    yield
    assert _state() == before
