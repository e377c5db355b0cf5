"""What a call of an accelerated layer spends on the question whether a kernel may run.

    python bench/guard.py [--seconds 1] [--json FILE]

In a loop, by itself: `holds`, whether the layer is what was judged, and `prepare`, the tensors and
what is asked of them at every call. Microseconds; the quickest of the rounds, since what else the
machine does only adds.
"""

from __future__ import annotations

import timeit

import options
import outcomes
import torch
from torch import nn

import kan_fast
from kan_fast.interop import dispatch
from kan_fast.interop.adapters import adapter_of

#: calls of a round
CALLS = 2000


def micros(run, seconds: float) -> float:
    """The quickest call of rounds that take so long together."""
    timer = timeit.Timer(run)
    timer.timeit(CALLS)
    rounds = max(3, int(seconds / max(timer.timeit(CALLS), 1e-9)))
    return min(timer.repeat(rounds, CALLS)) / CALLS * 1e6


def accelerated(model: nn.Module) -> nn.Module:
    """The first layer of a model, or the model, that is marked."""
    kan_fast.accelerate(model, strict=True)
    return next(m for m in model.modules() if dispatch.FLAG in m.__dict__)


def measure(model: nn.Module, seconds: float) -> dict[str, float]:
    layer = accelerated(model)
    verdict, adapter = layer.__dict__[dispatch.FLAG], adapter_of(layer)
    assert verdict.holds(layer) and not isinstance(adapter.prepare(layer), str)
    return {
        "holds_us": micros(lambda: verdict.holds(layer), seconds / 3),
        "prepare_us": micros(lambda: adapter.prepare(layer), seconds / 3),
        "guard_us": micros(lambda: verdict.holds(layer) and adapter.prepare(layer), seconds / 3),
        "lambda_us": micros(lambda: None, seconds / 10),
    }


def main() -> None:
    args, info = options.start(options.parser(__doc__, seconds=1))
    rows = {}
    for name, (make, _) in outcomes.cases().items():
        torch.manual_seed(0)
        rows[name] = measure(make(0), args.seconds)
        print(name, " ".join(f"{k} {v:.2f}" for k, v in rows[name].items()), flush=True)
    options.save(args, {"machine": info, "rows": rows})


if __name__ == "__main__":
    main()
