"""Recovers a formula from data with pykan: train sparsely, prune, snap edges to symbols.

    python examples/unmodified/symbolic_law.py [--quick] [--out FOLDER]
    python -m kan_fast examples/unmodified/symbolic_law.py [--quick] [--out FOLDER]

Needs pykan 0.2.8. The data are of exp(sin(pi x) + y²); the formula that is found is printed, and
the pruned network drawn. Nothing here knows kan_fast; the second command runs the same lines
accelerated.
"""

import argparse
import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch  # noqa: E402
from kan import KAN, create_dataset, ex_round  # noqa: E402
from matplotlib import pyplot  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("example_output"))
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)

    def law(x):
        return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)

    dataset = create_dataset(law, n_var=2, train_num=1000, seed=0)
    steps = 3 if args.quick else 20
    with tempfile.TemporaryDirectory() as scratch:  # pykan writes a checkpoint at every turn
        model = KAN(width=[2, 5, 1], grid=3, k=3, seed=1, ckpt_path=f"{scratch}/model")
        start = time.perf_counter()
        model.fit(dataset, opt="LBFGS", steps=steps, lamb=0.002)
        model = model.prune()
        model.fit(dataset, opt="LBFGS", steps=steps)
        model = model.refine(10)
        result = model.fit(dataset, opt="LBFGS", steps=steps)
        print(f"final loss {float(result['test_loss'][-1]):.6f} after pruning to {model.width_in}")
        if not args.quick:
            model.auto_symbolic(lib=["x", "x^2", "exp", "sin"])
            model.fit(dataset, opt="LBFGS", steps=20)
            print("formula:", ex_round(model.symbolic_formula()[0][0], 3))
        print(f"all of it took {time.perf_counter() - start:.1f} s")
        model.plot(folder=scratch)
        args.out.mkdir(parents=True, exist_ok=True)
        pyplot.savefig(args.out / "symbolic_law.png", dpi=150, bbox_inches="tight")
    print(f"plot: {args.out / 'symbolic_law.png'}")


if __name__ == "__main__":
    main()
