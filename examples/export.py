"""A trained KAN out of Python: torch.export and ONNX, with outputs checked.

    python examples/export.py [--quick]

Both see the layers decomposed into plain operators, so whoever runs the file needs no kan_fast. The
batch size stays free. ONNX needs `pip install onnx onnxscript`; the check reads the file with
ONNX's own reference evaluator.
"""

from __future__ import annotations

import common
import torch

import kan_fast


def main() -> None:
    args = common.start(__doc__)
    model = kan_fast.KAN([2, 5, 1], grid_size=5)
    x = torch.rand(1000, 2) * 2 - 1
    y = torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2)
    common.adam(
        "training", model, lambda: (model(x)[:, 0] - y).square().mean(), 10 if args.quick else 500
    )
    model.eval()
    args.out.mkdir(parents=True, exist_ok=True)
    free = ({0: torch.export.Dim("rows")},)
    other = torch.rand(37, 2) * 2.4 - 1.2  # another batch size, and inputs outside the grid
    with torch.no_grad():
        wanted = model(other)

    exported = torch.export.export(model, (x,), dynamic_shapes=free)
    path = args.out / "kan.pt2"
    torch.export.save(exported, path)
    found = torch.export.load(path).module()(other)
    print(f"{path}: largest difference {(found - wanted).abs().max():.1e}")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    try:
        import onnx.reference
        import onnxscript  # noqa: F401  what torch exports with
    except ImportError as missing:
        print(f"ONNX left out: {missing}")
        return
    path = args.out / "kan.onnx"
    torch.onnx.export(exported, (x,), path, dynamo=True, verbose=False)
    (found,) = onnx.reference.ReferenceEvaluator(str(path)).run(
        None, {exported.graph_signature.user_inputs[0]: other.numpy()}
    )
    found = torch.from_numpy(found)
    print(f"{path}: largest difference {(found - wanted).abs().max():.1e}")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    main()
