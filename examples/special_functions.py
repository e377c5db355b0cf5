"""Data fitting: special functions by a KAN whose grid is refined, and by MLPs of many sizes.

    python examples/special_functions.py [--plain] [--quick]

A [2,5,1] KAN is trained at grid_size 3, refined to 5, 10 and 20 and trained on at each; an MLP is
trained from scratch for each size. The claim of the paper (Liu et al., arXiv:2404.19756, fig. 3.1):
the error of cubic KANs falls with the fourth power of the number of parameters. It does, until the
optimizer or the 1500 points end it: a grid finer than the data rises again.
"""

from __future__ import annotations

import common
import torch
from scipy import special

import kan_fast
from kan_fast.baselines import mlp as mlp_of

GRIDS = (3, 5, 10, 20)
MLPS = ((2, 5, 1), (2, 10, 10, 1), (2, 20, 20, 1), (2, 40, 40, 1))


def elliptic(x: torch.Tensor) -> torch.Tensor:
    phi, m = 1.5 * x[:, 0], 0.45 * (x[:, 1] + 1)
    return torch.from_numpy(special.ellipkinc(phi.numpy(), m.numpy()))


def bessel(x: torch.Tensor) -> torch.Tensor:
    order, at = 2 * (x[:, 0] + 1), 5 * (x[:, 1] + 1) + 0.1
    return torch.from_numpy(special.jv(order.numpy(), at.numpy()))


def composed(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2)


FUNCTIONS = {
    "exp(sin(pi x) + y²)": composed,
    "elliptic integral F(x, y)": elliptic,
    "Bessel J_x(y)": bessel,
}


def main() -> None:
    args = common.start(__doc__)
    torch.set_default_dtype(torch.float64)
    steps = 3 if args.quick else 60
    functions = dict(list(FUNCTIONS.items())[: 1 if args.quick else None])
    figure, axes = common.figure(len(functions))
    for at, (name, function) in zip(axes[0], functions.items(), strict=True):
        x, x_test = torch.rand(2, 1500, 2) * 2 - 1
        y, y_test = function(x), function(x_test)

        def error(model, x=x_test, y=y_test) -> float:
            with torch.no_grad():
                return (model(x)[:, 0] - y).square().mean().sqrt().item()

        found: dict[str, list[tuple[int, float]]] = {"KAN [2,5,1]": [], "MLP": []}
        seconds = 0.0
        kan = kan_fast.KAN([2, 5, 1], grid_size=GRIDS[0], grid_range=(-1, 1))
        for grid_size in GRIDS:
            if grid_size != GRIDS[0]:
                kan.refine(grid_size)
            seconds += common.lbfgs(
                f"{name}: KAN, grid_size {grid_size}", kan,
                lambda kan=kan, x=x, y=y: (kan(x)[:, 0] - y).square().mean(), steps,
            )  # fmt: skip
            found["KAN [2,5,1]"].append((common.parameters(kan), error(kan)))
        print(f"{name}: the KAN took {seconds:.1f} s")
        for widths in MLPS[: 2 if args.quick else None]:
            mlp = mlp_of(widths, torch.nn.Tanh)
            common.lbfgs(
                f"{name}: MLP {list(widths)}", mlp,
                lambda mlp=mlp, x=x, y=y: (mlp(x)[:, 0] - y).square().mean(), steps * len(GRIDS),
            )  # fmt: skip
            found["MLP"].append((common.parameters(mlp), error(mlp)))
        for kind, points in found.items():
            at.loglog(*zip(*points, strict=True), "o-", label=kind)
            print(f"  {kind}: " + ", ".join(f"{n} parameters {e:.1e}" for n, e in points))
        first, last = found["KAN [2,5,1]"][0], found["KAN [2,5,1]"][-1]
        guide = [first[1], first[1] * (last[0] / first[0]) ** -4]
        at.loglog([first[0], last[0]], guide, "k:", label="parameters⁻⁴")
        at.set(title=name, xlabel="parameters", ylabel="RMS error on test points")
        at.legend()
    common.save(figure, args, "special_functions")


if __name__ == "__main__":
    main()
