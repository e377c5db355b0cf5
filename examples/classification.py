"""Classification of digits and regression on a table, by a KAN and the MLP of as many parameters.

    python examples/classification.py [--plain] [--quick]

Both data sets come with scikit-learn. What to expect: about the same accuracy. A KAN is no better
where a table or a picture is noisy; it is not slower either.
"""

from __future__ import annotations

import common
import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import kan_fast
from kan_fast.baselines import mlp, same_parameter_widths

GRID_SIZE = 5


def scaled(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Columns to the range of the grid, by what the training rows say."""
    low, high = train.amin(0), train.amax(0)
    width = torch.where(high > low, high - low, 1)
    return tuple(((t - low) / width * 2 - 1).clamp(-1, 1) * 0.95 for t in (train, test))


def data(load) -> tuple[Tensor, ...]:
    x, y = load(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    x, x_test = scaled(*[torch.tensor(t, dtype=torch.float32) for t in (x, x_test)])
    return x, x_test, torch.tensor(y), torch.tensor(y_test)


def models(widths: tuple[int, ...]) -> dict[str, nn.Module]:
    return {
        f"KAN {list(widths)}": kan_fast.KAN(widths, GRID_SIZE),
        "MLP, same parameters": mlp(same_parameter_widths(widths, GRID_SIZE, 3)),
    }


def main() -> None:
    args = common.start(__doc__)
    steps = 20 if args.quick else 600
    figure, axes = common.figure(2)

    x, x_test, y, y_test = data(load_digits)
    for name, model in models((64, 32, 10)).items():
        curve: list[float] = []

        def loss(model: nn.Module = model, curve: list[float] = curve) -> Tensor:
            rows = torch.randint(len(x), (256,))
            value = F.cross_entropy(model(x[rows]), y[rows])
            curve.append(value.item())
            return value

        seconds = common.adam(f"digits: {name}", model, loss, steps)
        with torch.no_grad():
            right = (model(x_test).argmax(1) == y_test).double().mean().item()
        print(
            f"digits, {name}: {right:.1%} of test images right, {common.parameters(model)} "
            f"parameters, {seconds / steps * 1e3:.2f} ms a step"
        )
        axes[0, 0].semilogy(curve, label=name)
    axes[0, 0].set(title="digits", xlabel="step", ylabel="cross entropy of the batch")

    x, x_test, y, y_test = data(load_diabetes)
    y, y_test = (t.float() for t in (y, y_test))
    mean, deviation = y.mean(), y.std()
    for name, model in models((10, 4, 1)).items():
        seconds = common.adam(
            f"diabetes: {name}", model,
            lambda model=model: (model(x)[:, 0] - (y - mean) / deviation).square().mean(),
            steps // 4, rate=5e-3,
        )  # fmt: skip
        with torch.no_grad():
            found = model(x_test)[:, 0] * deviation + mean
        explained = 1 - ((found - y_test).square().sum() / (y_test - y_test.mean()).square().sum())
        print(f"diabetes, {name}: R² {explained:.2f} on test rows, {seconds:.2f} s")
        axes[0, 1].plot(y_test, found, ".", label=name)
    axes[0, 1].set(title="diabetes, test rows", xlabel="measured", ylabel="predicted")
    for at in axes[0]:
        at.legend()
    common.save(figure, args, "classification")


if __name__ == "__main__":
    main()
