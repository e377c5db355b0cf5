"""Python imports this at the start of every process that `python -m kan_fast` lets begin, since its
folder is on their PYTHONPATH. It costs nothing until the process imports torch.

It imports nothing of kan_fast before that, and no fault of its own stops a process.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _run_the_one_that_this_hides():
    others = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class _AfterTorch:
    """Finds torch as it would be found, and begins once it is there."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(_AfterTorch)
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                from kan_fast.cli import children

                children.begin()
            except Exception as error:
                print(f"kan_fast: this child runs as it is: {error!r}", file=sys.stderr)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("KAN_FAST_CHILDREN"):
    sys.meta_path.insert(0, _AfterTorch)
_run_the_one_that_this_hides()
