"""The real pykan, plain and accelerated, for the tests that compare them."""

from __future__ import annotations

import beside
import torch

import kan_fast
from kan_fast.interop import dispatch

kan = beside.pykan()


def pair(**options) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same model plain and accelerated."""
    given = {"width": [2, 5, 1], "grid": 5, "k": 3, "seed": 1, "auto_save": False, **options}
    # pykan writes into the list of widths
    plain, fast = (kan.KAN(**{**given, "width": list(given["width"])}) for _ in range(2))
    kan_fast.accelerate(fast, strict=True)
    assert dispatch.FLAG in fast.__dict__ and dispatch.FLAG not in plain.__dict__
    return plain, fast


def data(rows: int = 300) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.rand(rows, 2) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    return {"train_input": x, "train_label": y, "test_input": x[:50], "test_label": y[:50]}


def gradients(model: torch.nn.Module, y: torch.Tensor) -> list[torch.Tensor]:
    """Of every trainable parameter; an empty one where y does not depend on it at all."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(y.square().sum(), parameters, allow_unused=True)
    return [torch.empty(0) if g is None else g for g in found]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    largest = float(a.detach().abs().max().clamp_min(1e-6)) if a.numel() else 0.0
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * largest, check_dtype=False)
