"""Makes a CUDA build of torch importable without the gigabytes of NVIDIA's libraries.

    python .ci/nvidia_stand_ins.py SITE_PACKAGES

The package index has torch for Linux as a CUDA build alone, which links NVIDIA's libraries: two to
three gigabytes for each version of torch, of which tests on a CPU call nothing. This program writes
a library of the same name for each missing one into `torch/lib`. Each function in it returns 100,
the code of CUDA's runtime for "no CUDA-capable device is detected", so
`torch.cuda.is_available()` is False. It needs gcc and readelf.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

NVIDIA = re.compile(r"lib(cu|nv|nccl)")


def readelf(option: str, library: Path) -> str:
    command = ["readelf", "--wide", option, library]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def missing(libraries: list[Path]) -> dict[str, dict[str, set[str]]]:
    """For each NVIDIA library that is not there: version (empty where none) to its symbols."""
    needed: set[str] = set()
    library_of: dict[str, str] = {}
    symbols: set[tuple[str, str]] = set()
    for library in libraries:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", library)))
        name = ""
        for line in readelf("--version-info", library).splitlines():
            if found := re.search(r"File: (\S+)", line):
                name = found[1]
            elif name and (found := re.search(r"Name: (\S+)", line)):
                library_of[found[1]] = name
        for line in readelf("--dyn-syms", library).splitlines():
            fields = line.split()
            if len(fields) > 7 and fields[6] == "UND":
                symbols.add((*fields[7].split("@"), "")[:2])
    there = {library.name for library in libraries}
    found = {n: defaultdict(set) for n in sorted(needed - there) if NVIDIA.match(n)}
    for symbol, version in sorted(symbols):
        if version:
            name = library_of.get(version, "")
        elif re.match(r"nccl|cu|nv", symbol):
            name = next(iter(found), "")  # without a version any library may have it
        else:
            continue
        if name in found:
            found[name][version].add(symbol)
    return found


def build(path: Path, versions: dict[str, set[str]]) -> None:
    """A library that has the functions, each in its version."""
    source = "".join(
        f'const char* {f}(void) {{ return "no CUDA-capable device is detected"; }}\n'
        if f in ("cudaGetErrorString", "cudaGetErrorName")
        else f"int {f}(void) {{ return 100; }}\n"
        for f in sorted(set().union(*versions.values()))
    )
    script = path.with_suffix(".map")
    nodes = {version: names for version, names in versions.items() if version}
    script.write_text(
        "".join(f"{v} {{ global: {'; '.join(sorted(n))}; }};\n" for v, n in nodes.items())
    )
    # -fno-builtin: some names are those of functions that gcc has prototypes for
    command = ["gcc", "-shared", "-fPIC", "-fno-builtin", "-w", "-x", "c", "-", "-o", path]
    command += [f"-Wl,-soname,{path.name}", *([f"-Wl,--version-script={script}"] if nodes else [])]
    subprocess.run(command, input=source, text=True, check=True)
    script.unlink()


def main() -> None:
    folder = Path(sys.argv[1]) / "torch" / "lib"
    libraries = [p for p in sorted(folder.glob("*.so*")) if p.is_file()]
    made = missing(libraries)
    for name, versions in made.items():
        build(folder / name, versions)
    print(f"nvidia_stand_ins: {len(made)} libraries in {folder}")


if __name__ == "__main__":
    main()
