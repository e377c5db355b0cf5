"""A transformer's MLP block (768-3072-768) as a KAN: memory and time of a training step.

    python examples/transformer_mlp.py [--plain] [--quick]

A KAN of the same widths has nine times the parameters, so the fair peer is 768-256-768: the width
that gives a KAN the parameters of the MLP block. Both are put into PyTorch's own encoder layer.
"""

from __future__ import annotations

import statistics
import time

import common
import torch
from torch import Tensor, nn

import kan_fast
from kan_fast.cli.timing import peak_bytes

HIDDEN, INNER, HEADS = 768, 3072, 12
GRID_SIZE = 5


class KANBlock(nn.TransformerEncoderLayer):
    """An encoder layer whose feed-forward block is a KAN; the rest is untouched."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__(hidden, heads, 1, dropout=0.0, batch_first=True, norm_first=True)
        del self.linear1, self.linear2
        # what comes out of a layer norm reaches a few deviations
        self.kan = kan_fast.KAN([hidden, inner, hidden], GRID_SIZE, grid_range=(-4, 4))

    def _ff_block(self, x: Tensor) -> Tensor:
        return self.kan(x.flatten(0, -2)).view_as(x)


def main() -> None:
    args = common.start(__doc__)
    hidden, inner, tokens = (64, 256, 64) if args.quick else (HIDDEN, INNER, 512)
    # an edge of the KAN has ten parameters: eight coefficients, their scale and the base weight
    narrow = inner // 10
    options = dict(dropout=0.0, batch_first=True, norm_first=True, activation="gelu")
    blocks = {
        f"MLP {hidden}-{inner}-{hidden}": nn.TransformerEncoderLayer(
            hidden, HEADS if hidden % HEADS == 0 else 4, inner, **options
        ),
        f"KAN {hidden}-{narrow}-{hidden}": KANBlock(
            hidden, HEADS if hidden % HEADS == 0 else 4, narrow
        ),
    }
    x = torch.randn(1, tokens, hidden, requires_grad=True)
    figure, axes = common.figure(2)
    for place, (name, block) in enumerate(blocks.items()):

        def step(block: nn.Module = block) -> None:
            block.zero_grad()
            block(x).square().mean().backward()

        step()
        taken = []
        for _ in range(2 if args.quick else 10):
            begin = time.perf_counter()
            step()
            taken.append(time.perf_counter() - begin)
        memory, milliseconds = peak_bytes(step) / 2**20, statistics.median(taken) * 1e3
        print(
            f"{name}: {common.parameters(block)} parameters, {milliseconds:.1f} ms a step of "
            f"{tokens} tokens, {memory:.1f} MiB at most"
        )
        axes[0, 0].bar(place, milliseconds)
        axes[0, 1].bar(place, memory)
    for at, what in zip(axes[0], ("ms a training step", "MiB at most"), strict=True):
        at.set_xticks(range(len(blocks)), list(blocks))
        at.set_ylabel(what)
    common.save(figure, args, "transformer_mlp")


if __name__ == "__main__":
    main()
