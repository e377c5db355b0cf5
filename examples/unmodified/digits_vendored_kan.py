"""A digit classifier with its KAN layer copied into the script, as most KAN code has it.

    python examples/unmodified/digits_vendored_kan.py
    python -m kan_fast examples/unmodified/digits_vendored_kan.py

Nothing here knows kan_fast; the second command runs the same lines with the layers accelerated.
"""

import math
import time

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class KANLinear(nn.Module):
    def __init__(self, in_features, out_features, grid_size=5, spline_order=3):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        step = 2 / grid_size
        knots = torch.arange(-spline_order, grid_size + spline_order + 1) * step - 1
        self.register_buffer("grid", knots.repeat(in_features, 1))
        edges = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(edges))
        self.spline_weight = nn.Parameter(0.02 * torch.randn(*edges, grid_size + spline_order))
        self.spline_scaler = nn.Parameter(torch.empty(edges))
        self.base_activation = nn.SiLU()
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))

    def b_splines(self, x):
        t = self.grid
        x = x.unsqueeze(-1)
        bases = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for k in range(1, self.spline_order + 1):
            left = (x - t[:, : -(k + 1)]) / (t[:, k:-1] - t[:, : -(k + 1)])
            right = (t[:, k + 1 :] - x) / (t[:, k + 1 :] - t[:, 1:-k])
            bases = left * bases[..., :-1] + right * bases[..., 1:]
        return bases

    def forward(self, x):
        base = F.linear(self.base_activation(x), self.base_weight)
        weight = self.spline_weight * self.spline_scaler.unsqueeze(-1)
        return base + F.linear(self.b_splines(x).flatten(1), weight.flatten(1))


def main():
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32) / 8 - 1
    y = torch.tensor(labels)
    model = nn.Sequential(KANLinear(64, 64), KANLinear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(256):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        final = F.cross_entropy(model(x), y)
    print(f"final loss {final:.6f}")
    print(f"training took {seconds:.3f} s")


if __name__ == "__main__":
    main()
