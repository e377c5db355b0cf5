"""`bench/gpu_suite.sh`: the command line, the first lines of the verdicts, and the parts."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from gpu_suite import processes, progress, results, runner
from gpu_suite.parts import REHEARSAL, Part, parts

ROOT = Path(__file__).resolve().parents[2]
_QUERY = "name,driver_version,compute_cap,memory.total"


def gpu() -> str | None:
    """What nvidia-smi says of the GPUs here; None where it finds none or does not answer."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        if done.returncode == 0 and done.stdout.strip():
            return "; ".join(done.stdout.strip().splitlines())
    return None


def _version(package: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"{package} {metadata.version(package)}"
    return f"no {package}"


def _nvcc() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, timeout=5)
        return "nvcc " + done.stdout.split("release")[1].split(",")[0].strip()
    return "no nvcc"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/gpu_suite.sh", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("gpu-results"))
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU: small, on the CPU")
    parser.add_argument("--commit", help="of the sources, where there is no .git")
    work = ROOT / "build" / "gpu-suite"
    parser.add_argument("--work", type=Path, default=work, help="for logs, builds, caches")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every limit")
    parser.add_argument("--only", nargs="+", help="names of parts; all others are left out")
    return parser.parse_args(arguments)


def _environment(args: argparse.Namespace, commit: str, work: Path) -> None:
    """What every part of the suite is given."""
    paths = [str(ROOT), str(ROOT / "bench"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(
        PYTHONPATH=os.pathsep.join(paths),
        PYTHONUNBUFFERED="1",
        KAN_FAST_COMMIT=commit,
        **{results.SCALE: str(args.scale)},
        TRITON_CACHE_DIR=str(work / "triton"),
        TORCHINDUCTOR_CACHE_DIR=str(work / "inductor"),
    )
    os.environ.pop("KAN_FAST_BACKEND", None)
    for library in ("EFFICIENT_KAN", "FAST_KAN", "CHEBY_KAN", "PYKAN"):
        # there is no network to fetch them from; copies that are named take part
        os.environ.setdefault(f"KAN_FAST_{library}", "")
    os.environ.update(REHEARSAL if args.rehearse else {progress.ON_GPU: "1"})


def main(arguments: Sequence[str] | None = None, chosen: Sequence[Part] | None = None) -> int:
    """Runs the suite; the exit code is the number of parts that failed.

    Args:
        arguments: the command line.
        chosen: parts in the place of those of `parts.py`.
    """
    args = _arguments(arguments)
    listed = parts(args.quick, args.rehearse) if chosen is None else list(chosen)
    unknown = set(args.only or ()) - {part.name for part in listed}
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are {[p.name for p in listed]}")
        return 2
    listed = [part for part in listed if not args.only or part.name in args.only]
    out, work = args.folder.resolve(), args.work.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for stale in ("logs", "facts.json"):
        path = work / stale
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    (work / "logs").mkdir(parents=True)
    for stale in (".logs.partial", "tests.txt", "core.json", "gpu.json", "gpu_kernels.json"):
        (out / stale).unlink(missing_ok=True)

    words = {"python": sys.executable, "out": str(out), "work": str(work)}
    suite = runner.Suite(ROOT, out, work, args.scale, words)  # its clock runs from here on
    find_commit = runpy.run_path(str(ROOT / "kan_fast" / "cli" / "commit.py"))["of"]
    commit = args.commit or find_commit(ROOT, os.environ.get("KAN_FAST_COMMIT"))
    found = gpu()
    _environment(args, commit, work)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, runner.end_in_words)
    processes.adopt_orphans()
    for line in (
        "a rehearsal: nothing here ran on a GPU" if args.rehearse else "on a GPU",
        f"device {found or 'none that nvidia-smi finds'}",
        ", ".join([f"Python {platform.python_version()}", *map(_version, ("torch", "triton")),
                   _nvcc(), f"{len(os.sched_getaffinity(0))} cores"]),
        f"commit {commit}",
    ):  # fmt: skip
        results.say("NOTE", line)
    suite.verdicts.show()
    # torch does without nvidia-smi, which may be slow at first; the part "facts" then decides
    if found is None and not args.rehearse and not Path("/dev/nvidiactl").exists():
        results.say("FAIL", "nvidia-smi finds no GPU here; --rehearse needs none")
        suite.verdicts.show()
        return 1
    modules = ROOT / "kan_fast" / "_triton_jit"
    if not modules.exists():  # what an installation does, without one
        modules.unlink(missing_ok=True)
        modules.symlink_to(Path("..") / "kernels" / "triton_jit")
    failed = suite.run(listed)
    suite.print_table()
    return failed


if __name__ == "__main__":
    sys.exit(main())
