"""The shapes that benches run."""

from __future__ import annotations

from kan_fast.cli.shapes import CPU, Shape

#: what published KAN code runs, as far as it fits a CPU
USERS = (
    Shape(3000, (4, 100, 100, 100, 1), 100),  # grid extension on special functions
    Shape(64, (784, 64, 10), 5),  # MNIST, small batches
    Shape(512, (784, 64, 10), 5),
    Shape(1024, (784, 10, 10, 10), 20),  # tabular comparisons
    Shape(224, (96, 64, 64, 96), 4),  # time series
    Shape(256, (4, 8, 2), 5),  # control policies
    Shape(196608, (32, 8, 8), 3),  # radiance fields
    Shape(8192, (128, 128, 128, 128), 5),  # segmentation
    Shape(1024, (192, 768, 192), 5),  # a small transformer's MLP
)

#: the wide layers that tensor cores decide
GPU_WIDE = tuple(Shape(4096, (n, n), g) for g in (5, 20) for n in (512, 1024))

#: what has a GPU for a reason, and what is launched there all the same
GPU = (
    *GPU_WIDE,
    Shape(65536, (64, 64), 5),
    Shape(1000, (2, 5, 1), 5),  # a first script with pykan
    Shape(3000, (4, 100, 100, 100, 1), 100),  # grid extension
    Shape(64, (784, 64, 10), 5),
    Shape(512, (784, 64, 10), 5),
    Shape(5888, (64, 64, 64, 64, 64), 8),  # a graph network
    Shape(196608, (32, 8, 8), 3),  # a radiance field
    Shape(2048, (160, 160, 160, 160), 5),  # segmentation
    Shape(28368, (192, 192, 192), 8),  # a vision transformer
    Shape(16384, (768, 3072, 768), 5),  # a language model
    Shape(4096, (64, 64), 64),
    Shape(4096, (32, 32), 100),
)
SUITES = {"cpu": CPU, "users": USERS, "gpu": GPU, "gpu-wide": GPU_WIDE}
