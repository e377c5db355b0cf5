"""Physics: a KAN finds the mobility edge of a quasi-periodic chain, as a formula's shape.

    python examples/mobility_edge.py [--plain] [--quick]

The generalised Aubry-Andre chain (Ganeshan, Pixley, Das Sarma, Phys. Rev. Lett. 114, 146601):

    t (psi[n+1] + psi[n-1]) + V(n) psi[n] = E psi[n],
    V(n) = 2 lambda cos(2 pi n b + phi) / (1 - a cos(2 pi n b + phi)),  b the golden mean

Its states are extended or localised, and between them lies a E = 2 sign(lambda) (|t| - |lambda|).
The chain is diagonalised here; a [2,1] KAN sees lambda and a E of each state and says whether it is
localised, by the inverse participation ratio. What it learns is a sum of two functions: the edge is
where they balance, and straight functions make a straight edge.
"""

from __future__ import annotations

import common
import numpy as np
import torch
import torch.nn.functional as F

import kan_fast


def states(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count * size, 3]`: lambda, a E and whether the state is localised."""
    rows = []
    golden = (5**0.5 - 1) / 2
    for _ in range(count):
        strength, a = rng.uniform(0.2, 1.8), rng.uniform(0, 0.6)
        phase = 2 * np.pi * golden * np.arange(size) + rng.uniform(0, 2 * np.pi)
        potential = 2 * strength * np.cos(phase) / (1 - a * np.cos(phase))
        hopping = np.diag(np.ones(size - 1), 1)
        energy, vectors = np.linalg.eigh(np.diag(potential) + hopping + hopping.T)
        # an extended state has 1 / size of it everywhere
        localised = (vectors**4).sum(0) > 5 / size
        rows.append(np.stack([np.full(size, strength), a * energy, localised], 1))
    return np.concatenate(rows)


def main() -> None:
    args = common.start(__doc__)
    rng = np.random.default_rng(args.seed)
    size, count = (60, 10) if args.quick else (300, 120)
    data = torch.tensor(states(size, count, rng), dtype=torch.float32)
    low, high = data[:, :2].quantile(0.01, 0), data[:, :2].quantile(0.99, 0)
    x = (data[:, :2] - low) / (high - low) * 2 - 1
    y = data[:, 2]
    train = torch.rand(len(x)) < 0.8
    model = kan_fast.KAN([2, 1], grid_size=5, grid_range=(-1.2, 1.2))

    def loss() -> torch.Tensor:
        rows = torch.randint(int(train.sum()), (2048,))
        penalty = 1e-3 * model.regularization_loss()
        found = model(x[train][rows])[:, 0]
        return F.binary_cross_entropy_with_logits(found, y[train][rows]) + penalty

    seconds = common.adam("mobility edge", model, loss, 20 if args.quick else 800)
    with torch.no_grad():
        right = ((model(x[~train])[:, 0] > 0) == (y[~train] > 0.5)).double().mean().item()
        edge = data[:, 1] > 2 * (1 - data[:, 0])
        theory = (edge == (y > 0.5)).double().mean().item()
    print(f"states told apart: {right:.1%} by the KAN, {theory:.1%} by the exact edge")
    print(f"training took {seconds:.1f} s")

    figure, axes = common.figure(2)
    axes[0, 0].scatter(data[:, 0], data[:, 1], c=y, s=1, cmap="coolwarm")
    line = torch.linspace(0.2, 1.8, 100)
    axes[0, 0].plot(line, 2 * (1 - line), "k", label="a E = 2 (1 - lambda)")
    with torch.no_grad():
        height = torch.linspace(float(low[1]), float(high[1]), 200)
        raw = torch.stack(torch.meshgrid(line, height, indexing="ij"), -1)
        logits = model((raw - low) / (high - low) * 2 - 1)[..., 0]
    axes[0, 0].contour(line, height, logits.T, [0.0], colors="tab:green")
    axes[0, 0].plot([], [], "tab:green", label="the KAN's")
    axes[0, 0].set(title="states: localised in red", xlabel="lambda", ylabel="a E")
    axes[0, 0].set_ylim(float(low[1]), 2)
    axes[0, 0].legend(loc="lower left")
    for i, name in enumerate(("lambda", "a E")):
        with torch.no_grad():
            points = torch.zeros(200, 2)
            points[:, i] = torch.linspace(-1, 1, 200)
            values = model(points)[:, 0] - model(torch.zeros(1, 2))[:, 0]
        real = low[i] + (points[:, i] + 1) / 2 * (high[i] - low[i])
        axes[0, 1].plot(real, values, label=name)
    axes[0, 1].set(title="what the KAN learned of each input", xlabel="lambda, a E")
    axes[0, 1].legend()
    common.save(figure, args, "mobility_edge")


if __name__ == "__main__":
    main()
