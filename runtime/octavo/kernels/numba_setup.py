"""Numba's set-up: for which CPU kernels are compiled, and where their cache is.

An image holds kernels that were compiled when it was built, on another machine and on a file system that is
read-only now. So code is compiled for a level of the x86-64 architecture instead of the CPU at hand, and the
image's cache is copied to where numba can write. Elsewhere the cache is a folder of the user's, named after
the kernels' sources: numba itself notices no change of a file that a kernel takes its parts or numbers from.
What the user sets is left alone.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import shutil
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from octavo.owned_folder import OwnedFolder

CACHE_VARIABLE = "OCTAVO_KERNEL_CACHE"
"""Names the folder of compiled kernels that an image brings along."""

_LEVEL_3 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}
_LEVEL_4 = _LEVEL_3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_PAIR_PRODUCTS = {"avx512_bf16", "avx512vbmi"}


@dataclass(frozen=True, slots=True)
class Target:
    """What code is compiled for, in LLVM's names: a level of x86-64, and features beyond it."""

    level: str
    features: str = ""


TARGETS = (
    Target("x86-64-v3"),
    Target("x86-64-v4"),
    Target("x86-64-v4", "+avx512bf16,+avx512vbmi"),
)
"""What an image brings compiled kernels for."""


def x86_target(flags: AbstractSet[str]) -> Target | None:
    """The highest of `TARGETS` that a CPU with these flags of /proc/cpuinfo runs, if any."""
    if flags >= _LEVEL_4 | _PAIR_PRODUCTS:
        return TARGETS[2]
    if flags >= _LEVEL_4:
        return TARGETS[1]
    return TARGETS[0] if flags >= _LEVEL_3 else None


def host_target() -> Target | None:
    """What kernels are compiled for here; None leaves it to numba."""
    return x86_target(cpu_flags()) if platform.machine() == "x86_64" else None


@functools.cache
def kernel_cache() -> str | None:
    """The folder where this process finds and keeps compiled kernels; None leaves it to numba."""
    brought = os.environ.get(CACHE_VARIABLE)
    if brought and Path(brought).is_dir():
        # A folder of our own with a name that nobody knows beforehand: numba runs what it finds there.
        folder = OwnedFolder("octavo-kernels-")
        atexit.register(folder.remove)
        return str(shutil.copytree(brought, folder.path, dirs_exist_ok=True))
    kept = _user_cache(os.environ)
    return None if kept is None else str(kept)


def _user_cache(environ: Mapping[str, str]) -> Path | None:
    """The folder for these sources in the user's cache; None where it cannot be made."""
    home = environ.get("HOME")
    root = environ.get("XDG_CACHE_HOME") or (home and str(Path(home) / ".cache"))
    if not root:
        return None
    folder = Path(root) / "octavo" / "kernels" / _source_digest(Path(__file__).parent)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _source_digest(kernels: Path) -> str:
    """Of the files that decide what is compiled: the kernels', and those whose constants they hold."""
    folders = [kernels / "cpu", kernels / "reference"]
    files = [*kernels.glob("*.py"), *(file for each in folders for file in each.rglob("*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(kernels)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> AbstractSet[str]:
    """What this CPU can do, in the kernel's names; empty where the kernel does not say."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())
