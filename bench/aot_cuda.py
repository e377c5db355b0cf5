"""Compiles every CUDA C++ kernel without a GPU, and judges the machine code.

    python bench/aot_cuda.py --check [--arch 80 90 90a] [--build FOLDER] [--json FILE]

A kernel passes when it keeps its registers, its products are on the tensor cores in the precision
and the sparsity that it is for, those of wgmma run side by side, and an atomic is between fences. A
file passes when every kernel that the launches can ask for is there. Without --arch it is what a
wheel has, and every GPU that we support must find something to run.

Needs nvcc, CMake, ninja and cuobjdump, which Triton's wheel has; no torch.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from machine_code import output, tool

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "kernels" / "cuda"
#: architectures that files are compiled for by themselves
OWN = {"wgmma": "90a"}
#: compute capabilities of the GPUs that we support
CAPABILITIES = [
    (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1),
]  # fmt: skip
#: what stands in the name of an instruction for the numbers of `kan_fast::Product`
NUMBERS = {"kTf32x3": "TF32", "kTf32": "TF32", "kBf16": "BF16", "kF16": ""}


def constant(header: str, name: str) -> int:
    """A constant of a header under kernels/."""
    text = (ROOT / "kernels" / header).read_text()
    return int(re.search(rf"constexpr int {name} = (\d+);", text)[1])


def products() -> list[str]:
    """The names in `kan_fast::Product`, in order."""
    text = (SOURCES / "product.h").read_text()
    return re.search(r"enum class Product : int {([^}]*)}", text)[1].replace(",", "").split()


def expected(unit: str) -> set[str]:
    """The kernels of a file: every order, product and form that its launches choose from."""
    orders = range(constant("include/kan_fast/basis/bspline.h", "kMaxOrder") + 1)
    mma_orders = range(1, constant("cuda/launch_mma.h", "kMostMmaOrder") + 1)
    choices = list(itertools.product(mma_orders, range(len(products()))))
    kind, _, number = unit.partition("_")
    if kind == "gather":
        names = {f"{k}<{o}, {number}>" for k in ("GatherOut", "GatherInWeight") for o in orders}
        return names | {f"UnfoldParts<{number}>"}
    if kind == "network":
        passes = ("NetworkForward", "NetworkBackward", "NetworkDoubleBackward")
        names = {f"{k}<{o}, {number}>" for k in passes for o in orders}
        return names | {f"UnfoldNetwork<{number}>"}
    if unit == "mma_backward":
        return {f"MmaInWeight<{o}, {p}>" for o, p in choices} | {"UnfoldParts<float>"}
    if unit in ("mma", "wgmma"):
        tile = {"mma": "TallMmaTile", "wgmma": "WgmmaTile"}[unit]
        sparse = ("false", "true")
        return {f"MmaOut<{o}, {p}, {s}, {tile}>" for o, p in choices for s in sparse} | {
            "PackWeights"
        }
    if unit == "errors":
        return set()
    raise ValueError(f"{unit}.cu: its kernels are not known")


def compile_all(build: Path, archs: list[str] | None) -> list[Path]:
    """The object files, of all architectures of a wheel or of those that are named."""
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", build]
    configure += ["-DKAN_FAST_CXX_TESTS=ON", "-DKAN_FAST_CUDA=ON"]
    # of the host's code it counts that it compiles and links, not how fast it is
    configure += ["-DKAN_FAST_X86_KERNELS=OFF", "-DCMAKE_CXX_FLAGS_RELEASE=-O0"]
    common = None if archs is None else [a for a in archs if a not in OWN.values()]
    named = ";".join(f"{a}-real" for a in common or [])
    subprocess.run([*configure, f"-DKAN_FAST_CUDA_ARCHITECTURES={named}"], check=True)
    units = [p.stem for p in sorted(SOURCES.glob("*.cu"))]
    if archs is not None:
        units = [u for u in units if (OWN[u] in archs if u in OWN else common)]
    objects = [f"CMakeFiles/kan_device{_suffix(u)}.dir/kernels/cuda/{u}.cu.o" for u in units]
    # all of them make a program: launches, what they launch and CUDA's runtime belong together
    linked = ["test_device"] if archs is None else []
    subprocess.run(["cmake", "--build", build, "--target", *objects, *linked], check=True)
    return [build / name for name in objects]


def _suffix(unit: str) -> str:
    return f"_{OWN[unit]}" if unit in OWN else ""


def short_names(mangled: list[str]) -> dict[str, str]:
    """`MmaOut<3, 2, true, WgmmaTile>` and the like, by the names in machine code."""
    readable = subprocess.run(
        ["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = {}
    for name, text in zip(mangled, readable, strict=True):
        plain = re.sub(r"kan_fast::(common::)?", "", text).replace("(Product)", "")
        inside = re.search(r"in_step<(.*), (?:true|false)>\(", plain)
        found[name] = inside[1] if inside else plain
    return found


def kernels_of(binary: Path) -> list[dict[str, Any]]:
    """What is found of every kernel in an object file or a library."""
    cuobjdump = tool("cuobjdump")
    kernels: dict[tuple[str, str], dict[str, Any]] = {}
    arch = name = ""
    for line in output(cuobjdump, "--dump-resource-usage", binary).splitlines():
        if found := re.search(r"arch = sm_(\d+\w?)", line):
            arch = found[1]
        elif found := re.search(r"Function (\S+):", line):
            name = found[1]
        elif found := re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", line):
            numbers = dict(
                zip(("registers", "stack", "local"), map(int, found.groups()), strict=True)
            )
            kernels[arch, name] = dict(arch=arch, kernel=name, **numbers)
    for arch in {a for a, _ in kernels}:
        listing = output(cuobjdump, "-sass", "-arch", f"sm_{arch}", binary)
        for text in listing.split("Function : ")[1:]:
            name, _, sass = text.partition("\n")
            # asked for 9.0a, CUDA 13.0 lists the code for 9.0 too, as an H100's machine showed
            if (arch, name.strip()) in kernels:
                kernels[arch, name.strip()].update(instructions_of(sass))
    names = short_names([k["kernel"] for k in kernels.values()])
    return [k | dict(kernel=names[k["kernel"]]) for k in kernels.values()]


def instructions_of(sass: str) -> dict[str, Any]:
    """Of the machine code of a kernel: products of tensor cores by name, how often it waits for
    those of wgmma, and the order of barriers, fences and atomics around its first atomic."""
    words = re.findall(
        r"\b(HG?MMA\.[.\w]+|BAR\.SYNC|MEMBAR(?!\.\w+\.CTA)|ATOMG?\b|RED\b|WARPGROUP\.DEPBAR)",
        sass,
    )
    # wgmma.fence is made of products without a result
    made = [w for w in words if "MMA" in w and not w.endswith(".F16")]
    order = [w for w in words if "MMA" not in w]
    at = next((n for n, word in enumerate(order) if word in ("ATOM", "ATOMG", "RED")), None)
    return dict(
        instructions=sass.count(";"),
        products={name: made.count(name) for name in sorted(set(made))},
        waits=words.count("WARPGROUP.DEPBAR"),
        around_atomic=[] if at is None else order[max(0, at - 2) : at + 3],
    )


def faults(found: dict[str, Any]) -> list[str]:
    """What keeps a kernel from being shipped, in sentences."""
    wrong = []
    if found["stack"] or found["local"]:
        wrong.append(f"spills: stack of {found['stack']} bytes, {found['local']} local")
    around = found["around_atomic"]
    if around and around[:2] + around[3:] != ["BAR.SYNC", "MEMBAR", "MEMBAR", "BAR.SYNC"]:
        wrong.append(f"has an atomic without a fence on both sides: {' '.join(around)}")
    if found["kernel"].startswith("NetworkBackward") and not around:
        wrong.append("has no atomic, by which the last block is known")
    named = re.fullmatch(
        r"Mma(?:Out|InWeight)<\d, (\d)(?:, (true|false), (\w+))?>", found["kernel"]
    )
    if not named:
        return wrong
    product, sparse = products()[int(named[1])], named[2] == "true"
    made = found["products"]
    passes = 3 if product == "kTf32x3" else 1
    instruction = "HMMA"
    if named[3] == "WgmmaTile":
        instruction = "HGMMA"
        if found["waits"] != 1:
            wrong.append(f"waits {found['waits']} times for products of wgmma")
    dense = sum(n for name, n in made.items() if ".SP." not in name)
    skipping = sum(made.values()) - dense
    for name in made:
        if not name.startswith(instruction + ".") or NUMBERS[product] not in name:
            wrong.append(f"has {name}, not {instruction} of {product}")
    if not dense or dense % passes or skipping % passes:
        wrong.append(f"has {dense} dense and {skipping} sparse products of {passes} passes")
    if bool(skipping) != sparse:
        wrong.append(f"has {skipping} structured-sparse products")
    return wrong


def missing(unit: str, found: list[dict[str, Any]]) -> list[str]:
    """Kernels that a file should have for an architecture and has not, or the other way round."""
    wrong = []
    for arch in sorted({k["arch"] for k in found}):
        names = {k["kernel"] for k in found if k["arch"] == arch}
        wrong += [f"sm_{arch} lacks {name}" for name in sorted(expected(unit) - names)]
        wrong += [f"sm_{arch} has {name}" for name in sorted(names - expected(unit))]
    return wrong


def images(binary: Path) -> tuple[set[str], set[str]]:
    """The architectures of binaries and of PTX in a file."""
    listing = output(tool("cuobjdump"), "--list-elf", binary)
    ptx = subprocess.run(
        [tool("cuobjdump"), "--list-ptx", binary], capture_output=True, text=True
    ).stdout  # fails where there is none
    return (
        set(re.findall(r"\.sm_(\d+\w?)\.cubin", listing)),
        set(re.findall(r"\.sm_(\d+\w?)\.ptx", ptx)),
    )


def serves(binaries: set[str], ptx: set[str], capability: tuple[int, int]) -> bool:
    """Whether a GPU has something to run: a binary of the same major and no higher minor
    capability, or PTX of no higher one (NVIDIA, "Blackwell Compatibility Guide for CUDA
    Applications", section 1.2). Those of one architecture alone, as 90a, do not count."""
    of = [divmod(int(a), 10) for a in binaries if a.isdigit()]
    return any(major == capability[0] and minor <= capability[1] for major, minor in of) or any(
        divmod(int(a), 10) <= capability for a in ptx if a.isdigit()
    )


def judge(binary: Path, whole: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Kernels of an object file, each with its faults, and the faults of the file."""
    unit = binary.name.split(".")[0]
    if not expected(unit):
        return [], []
    found = [k | dict(unit=unit, faults=faults(k)) for k in kernels_of(binary)]
    wrong = missing(unit, found) if found else ["has no kernels"]
    if whole and unit not in OWN:
        there = images(binary)
        wrong += [
            "has nothing to run for compute capability {}.{}".format(*capability)
            for capability in CAPABILITIES
            if not serves(*there, capability)
        ]
    return found, wrong


def line_of(unit: str, arch: str, kernels: list[dict[str, Any]]) -> str:
    """One row of the table: the kernels of a file for an architecture."""
    made = sum((collections.Counter(k["products"]) for k in kernels), collections.Counter())
    return (
        f"sm_{arch:<4}{unit:16}{len(kernels):>3} kernels "
        f"{max(k['registers'] for k in kernels):>4} registers at most "
        f"{sum(k['instructions'] for k in kernels):>7} instructions  "
        + " ".join(f"{name} {count}" for name, count in sorted(made.items()))
    )


def main() -> int:
    """Prints the table; with --check, the exit code is 1 when something has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", help="such as 80 or 90a; otherwise those of a wheel")
    parser.add_argument("--check", action="store_true", help="fail when something has a fault")
    parser.add_argument("--build", type=Path, help="a folder that is kept")
    parser.add_argument("--json", type=Path, help="write the findings here")
    args = parser.parse_args()
    if tool("cuobjdump") is None:
        raise SystemExit("aot_cuda: cuobjdump is not installed; Triton's wheel has it")
    kernels, failed = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for binary in compile_all(args.build or Path(temporary), args.arch):
            found, wrong = judge(binary, args.arch is None)
            unit = binary.name.split(".")[0]
            for arch in sorted({k["arch"] for k in found}):
                print(line_of(unit, arch, [k for k in found if k["arch"] == arch]))
            for fault in wrong:
                print(f"  FAULT {unit}.cu: {fault}")
            for kernel in found:
                for fault in kernel["faults"]:
                    print(f"  FAULT sm_{kernel['arch']} {kernel['kernel']}: {fault}")
            kernels += found
            failed += len(wrong)
    if args.json:
        rows = ",\n".join("  " + json.dumps(found) for found in kernels)
        args.json.write_text(f'{{"note": "compiled, not run", "kernels": [\n{rows}\n]}}\n')
    failed += sum(bool(k["faults"]) for k in kernels)
    print(f"{sum(not k['faults'] for k in kernels)} kernels passed, {failed} faults; not run")
    return int(bool(failed) and args.check)


if __name__ == "__main__":
    raise SystemExit(main())
