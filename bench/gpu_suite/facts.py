"""Whether torch runs on the GPU here, and the facts of it that later parts are given.

python -m gpu_suite.facts FILE
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_suite import results

#: of the machine that a rehearsal rehearses for
H100 = {"name": "NVIDIA H100", "capability": [9, 0], "multiprocessors": 132}


def of_nvidia_smi() -> dict:
    """Name and compute capability, as nvidia-smi has them."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=8)
    except (OSError, subprocess.SubprocessError):
        return H100
    found = re.match(r"(.*), (\d+)\.(\d+)", done.stdout)
    if found is None:
        return H100
    return {**H100, "name": found[1], "capability": [int(found[2]), int(found[3])]}


def of_torch() -> dict:
    """The same from the device itself, after a product and a reduction on it."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    a = torch.randn(512, 512, device="cuda")
    b = torch.ones(512, 512, device="cuda") @ torch.eye(512, device="cuda")
    if not torch.equal(b, torch.ones_like(b)) or not bool((a @ a).isfinite().all()):
        raise RuntimeError("a product of two matrices is wrong on this GPU")
    free, total = torch.cuda.mem_get_info()
    results.say("NOTE", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of GPU memory are free")
    return {
        "name": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
    }


def main() -> int:
    """See above."""
    target = Path(sys.argv[1])
    found = of_nvidia_smi()
    # for later parts, should the rest fail
    target.write_text(json.dumps(found))
    tools = ("nvcc", "cmake", "ninja", "g++", "compute-sanitizer")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        results.say("NOTE", f"not on PATH: {', '.join(missing)}")
    if os.environ.get("KAN_FAST_SUITE_REHEARSAL") != "1":
        import torch

        if not torch.cuda.is_available():
            print(f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no GPU")
            return 1
        found = of_torch()
        target.write_text(json.dumps(found))
    capability = "{}.{}".format(*found["capability"])
    print(f"{found['name']}, {capability}, {found['multiprocessors']} multiprocessors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
