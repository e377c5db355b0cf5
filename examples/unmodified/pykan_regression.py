"""Fits a formula with pykan, as its tutorials do: LBFGS, double precision.

    python examples/unmodified/pykan_regression.py
    python -m kan_fast examples/unmodified/pykan_regression.py

Needs pykan 0.2.8. Nothing here knows kan_fast; the second command runs the same lines accelerated.
"""

import time

import torch
from kan import KAN, create_dataset

torch.set_default_dtype(torch.float64)


def main():
    def formula(x):
        return torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)

    dataset = create_dataset(formula, n_var=2, train_num=1000, seed=0)
    model = KAN(width=[2, 5, 1], grid=5, k=3, seed=0, auto_save=False)
    start = time.perf_counter()
    result = model.fit(dataset, opt="LBFGS", steps=10)
    print(f"final loss {float(result['train_loss'][-1]):.6f}")
    print(f"training took {time.perf_counter() - start:.3f} s")


if __name__ == "__main__":
    main()
