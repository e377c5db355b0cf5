"""Facts about this machine and installation, gathered once."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path
from types import ModuleType

# torch first: the extension must find the OpenMP runtime that torch has already loaded
import torch

from kan_fast import envs, torch_internals
from kan_fast.spec import LEAST_CAPABILITY, Gpu, Machine


@functools.cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        module = importlib.import_module("kan_fast._C")
    except ImportError as error:
        return None, str(error)
    if envs.CUDA_EMULATE is not None:
        lend_cuda_kernels(module, envs.CUDA_EMULATE)
    return module, ""


def lend_cuda_kernels(module: ModuleType, library: str) -> None:
    """Adds the CUDA kernels for the host, which tests build (tests/emulation.py), to `kan_fast._C`.
    Where that has some for a device, they are replaced."""
    spec = importlib.util.spec_from_file_location("kan_emulation", library)
    emulation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(emulation)
    for name in dir(emulation):
        if name.lower().startswith("cuda"):
            setattr(module, name, getattr(emulation, name))


def extension() -> ModuleType:
    """The loaded `kan_fast._C`."""
    module, error = _load()
    if module is None:
        raise ImportError(error)
    return module


def _triton() -> tuple[str | None, str]:
    """Version of Triton, or None and the reason; without importing it, which takes a while."""
    if torch.version.hip is not None:
        return None, "this torch is built for ROCm, and the kernels are tested for CUDA alone"
    try:
        if importlib.util.find_spec("triton") is None:
            raise ImportError
        version = metadata.version("triton")
    except ImportError:
        return None, "it is not installed; pip install triton, in the version that torch asks for"
    if envs.TRITON_INTERPRET:
        return version, ""
    compiler = envs.c_compiler() or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(compiler) is None:
        return None, "its first launch needs a C compiler and there is none; install gcc"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        return None, f"its first launch needs {header}; install Python's development files"
    return version, ""


@functools.cache
def facts() -> Machine:
    """The facts of this process."""
    module, error = _load()
    isa = None if module is None else module.active_isa()
    return Machine(
        isa,
        error,
        *_triton(),
        interpreter=envs.TRITON_INTERPRET,
        cuda=module is not None and module.has_cuda(),
        cuda_emulated=envs.CUDA_EMULATE is not None,
    )


@functools.cache
def gpu(device: torch.device) -> Gpu:
    """The GPU behind a CUDA device; for a CPU device, Triton's interpreter."""
    if device.type != "cuda":
        return Gpu("interpreter", (0, 0), 1, interpreter=True)
    found = torch.cuda.get_device_properties(device)
    return Gpu(found.name, (found.major, found.minor), found.multi_processor_count)


@functools.cache
def _all_capable() -> bool:
    count = torch.cuda.device_count()
    return all(torch.cuda.get_device_capability(n) >= LEAST_CAPABILITY for n in range(count))


# Dynamo of torch 2.11 stops at `device_count`, as an H100 showed
@torch_internals.constant_when_traced
def all_capable() -> bool:
    """Whether every CUDA device of the process runs the Triton kernels."""
    return _all_capable()
