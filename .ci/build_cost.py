"""Builds a wheel without CUDA from nothing, and fails where that takes too long or too much room.

    python .ci/build_cost.py FOLDER

The objects stay in KAN_FAST_BUILD_DIR, so that the next installation compiles nothing again.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

#: processor time of all that the build starts, pip included: that of two idle threads of a Xeon
#: (docs/decisions/0012), and half as much again, since the clock of shared machines varies by as
#: much: 281 s were seen on the same one
MOST_SECONDS = 240 * 1.5
MOST_BYTES = 2 << 20


def main() -> int:
    folder = Path(sys.argv[1])
    kept = Path(os.environ["KAN_FAST_BUILD_DIR"])
    if kept.exists():
        raise SystemExit(f"{kept} is there: the build would not be one from nothing")
    without = {"CMAKE_ARGS": "-DKAN_FAST_CUDA=OFF", "KAN_FAST_REQUIRE_EXTENSION": "1"}
    # a cache of the compiler would make it another measurement
    environment = {**os.environ, **without, "CCACHE_DISABLE": "1"}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, "."]
    subprocess.run(command, env=environment, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    (wheel,) = folder.glob("*.whl")
    size = wheel.stat().st_size
    print(f"{seconds:.0f} s of processor time, a wheel of {size / 2**20:.2f} MB")
    wrong = []
    if seconds > MOST_SECONDS:
        wrong.append(f"the build takes more than {MOST_SECONDS:.0f} s of processor time")
    if size > MOST_BYTES:
        wrong.append(f"the wheel has more than {MOST_BYTES >> 20} MB")
    names = zipfile.ZipFile(wheel).namelist()
    if any("emulation" in name or name.startswith("tests") for name in names):
        wrong.append("the wheel has what only tests use")
    for fault in wrong:
        print(f"FAULT: {fault}")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
