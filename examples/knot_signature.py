"""Knot theory: predict a topological invariant of knots from geometric ones, and see which matter.

    python examples/knot_signature.py [--plain] [--quick]

The signature of a knot is computed from a Seifert matrix of its diagram; volume and cusp from the
hyperbolic structure of its complement, both by SnapPy (`pip install snappy`), on the knots of up
to eleven crossings. A KAN classifies the signature. Davies et al. (Nature 600, 70) found with a
network of 300,000 parameters that the translations of the cusp decide; the paper of KANs (Liu et
al., arXiv:2404.19756, section 4.3) found it with 200. Here inputs are pruned by how much the edges
that leave them carry, and the KAN is trained again on what is left.
"""

from __future__ import annotations

import common
import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track

import kan_fast

NAMES = ("volume", "Re mu", "Im mu", "lambda", "cusp volume")


def invariants(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`[knots, 5]` geometric invariants and `[knots]` signatures of hyperbolic knots."""
    import snappy

    rows, signatures = [], []
    every = list(snappy.HTLinkExteriors(knots_vs_links="knots")[:801])
    step = max(1, len(every) // count)
    for known in track(every[::step], description="knots", transient=True):
        link = snappy.Link(known.name())
        exterior = link.exterior()
        if exterior.solution_type() != "all tetrahedra positively oriented":
            continue  # torus knots have no hyperbolic structure
        shape = complex(exterior.cusp_info(0)["shape"])
        cusp = exterior.cusp_neighborhood()
        cusp.set_displacement(cusp.stopping_displacement(0), 0)
        volume = float(cusp.volume(0))
        # the largest cusp's boundary has area 2 * volume = |lambda|² Im(mu / lambda), and
        # shape = lambda / mu up to conjugation; lambda is real by convention
        slant = 1 / shape.conjugate()
        length = (2 * volume / abs(slant.imag)) ** 0.5
        mu = length * slant
        rows.append((float(exterior.volume()), mu.real, mu.imag, length, volume))
        seifert = np.array(link.seifert_matrix())
        signatures.append(int(np.sign(np.linalg.eigvalsh(seifert + seifert.T)).sum()))
    return np.array(rows), np.array(signatures)


def train(title: str, x: torch.Tensor, y: torch.Tensor, classes: int, steps: int) -> kan_fast.KAN:
    model = kan_fast.KAN([x.shape[1], 1, classes], grid_size=6, grid_range=(-2.5, 2.5))

    def loss() -> torch.Tensor:
        # few edges that carry anything
        return F.cross_entropy(model(x), y) + 2e-3 * model.activation_regularization_loss(x)

    common.adam(title, model, loss, steps)
    return model


def main() -> None:
    args = common.start(__doc__)
    raw, signature = invariants(40 if args.quick else 801)
    x = torch.tensor((raw - raw.mean(0)) / raw.std(0), dtype=torch.float32).clamp(-2.5, 2.5)
    kinds = np.unique(signature)
    y = torch.tensor(np.searchsorted(kinds, signature))
    steps = 20 if args.quick else 1500
    test = torch.rand(len(x)) < 0.25

    def accuracy(model: kan_fast.KAN, columns: list[int]) -> float:
        with torch.no_grad():
            found = model(x[test][:, columns]).argmax(1)
        return (found == y[test]).double().mean().item()

    every = list(range(len(NAMES)))
    model = train("all invariants", x[~test], y[~test], len(kinds), steps)
    with torch.no_grad():
        layer = model.layers[0]
        at = x[~test]
        # how much the function of each input varies over the knots
        zero = torch.zeros_like(at)
        weight = torch.stack(
            [
                layer(torch.where(torch.arange(len(NAMES)) == i, at, zero)).std()
                for i in range(len(NAMES))
            ]
        )
    share = weight / weight.sum()
    print(f"{len(x)} hyperbolic knots, signatures {kinds.min()} to {kinds.max()}")
    print(f"all invariants: {accuracy(model, every):.1%} of test knots right")
    for name, part in zip(NAMES, share, strict=True):
        print(f"  {name}: {part:.0%} of what the edges carry")
    kept = sorted(share.argsort(descending=True)[:3].tolist())
    again = train("what is left", x[~test][:, kept], y[~test], len(kinds), steps)
    names = ", ".join(NAMES[i] for i in kept)
    print(f"{names} alone: {accuracy(again, kept):.1%} right")

    figure, axes = common.figure(2)
    axes[0, 0].bar(NAMES, share)
    axes[0, 0].set_title("share of what the edges carry")
    axes[0, 0].tick_params(axis="x", rotation=30)
    slope = raw[:, 1] * raw[:, 3] / (raw[:, 1] ** 2 + raw[:, 2] ** 2)
    axes[0, 1].plot(slope, signature, ".", markersize=3)
    axes[0, 1].set(
        title="every knot", xlabel="Re(lambda / mu), the natural slope", ylabel="signature"
    )
    common.save(figure, args, "knot_signature")


if __name__ == "__main__":
    main()
