"""Machine. What this process may use of the machine: cores, memory and instructions, honouring cgroup limits.

A pod with a limit of 2 CPUs on a 64-core node sees 64 cores; running 64 threads there makes each of them
wait for its share. A pod that only requests 2 CPUs has no limit to read, so its environment says it. Both
cgroup versions are read; paths are arguments so that tests can lay them out.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping
from pathlib import Path

from octavo.errors import InvalidConfigurationError

CPUS_VARIABLE = "OCTAVO_CPUS"
"""Cores that the engine may use at most; a pod that requests CPUs without a limit is told by it."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MIN_PARAMETERS_FOR_THREADS = 20_000_000
_UNLIMITED_BYTES = 2**60  # cgroup v1 writes a huge number for "no limit"


def available_cpus(
    cgroup_root: Path = _CGROUP_ROOT, environment: Mapping[str, str] = os.environ
) -> int:
    """Cores that this process may run on at once, at least 1: what affinity, the cgroup's quota,
    `OCTAVO_CPUS` and `OMP_NUM_THREADS` all allow.

    Raises:
        InvalidConfigurationError: `OCTAVO_CPUS` is no positive integer.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cpu_quota(cgroup_root)
    limits = (
        allowed or 1,
        None if quota is None else max(1, math.ceil(quota)),
        _cpus_told(environment.get(CPUS_VARIABLE)),
        _openmp_threads(environment.get("OMP_NUM_THREADS", "")),
    )
    return min(limit for limit in limits if limit is not None)


def threads_for(num_parameters: int, cpus: int) -> int:
    """Threads that torch should use for a model of this size.

    A tiny model's products are shorter than the barrier between threads, and a core left free serves
    the API process.
    """
    return 1 if num_parameters < _MIN_PARAMETERS_FOR_THREADS else cpus


def return_freed_memory() -> None:
    """To the system what the C library keeps of freed memory for later. While a model is loaded, weights pass
    through buffers whose places stay with the process otherwise: 400 MiB beside 1.6 GiB of int8."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; others have none
    if trim is not None:
        trim(0)


def available_memory_bytes(
    cgroup_root: Path = _CGROUP_ROOT, meminfo: Path = Path("/proc/meminfo")
) -> int:
    """Bytes that can be allocated before the kernel or the pod's limit stops us."""
    free = _meminfo_available(meminfo)
    limit = _memory_limit(cgroup_root)
    if limit is not None:
        free = min(free, max(limit - _memory_in_use(cgroup_root), 0))
    return free


def has_fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bf16 itself (AVX512-BF16, AMX, or Arm's BF16)."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        return False
    flags: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags.update(value.split())
            break
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _cpus_told(text: str | None) -> int | None:
    """Of `OCTAVO_CPUS`; unset and empty are the same."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidConfigurationError(
            f"The environment variable {CPUS_VARIABLE} is {text!r}; it must be a whole number of cores, at "
            "least 1. Leave it out to use all cores that the process may run on."
        )
    return int(text)


def _openmp_threads(text: str) -> int | None:
    """Of the outermost level; what OpenMP would ignore is ignored here too."""
    outermost = text.split(",")[0].strip()
    if not (outermost.isascii() and outermost.isdigit()):
        return None
    return int(outermost) or None


def _cpu_quota(root: Path) -> float | None:
    """CPUs of the pod's limit, or None without one."""
    v2 = _read(root / "cpu.max").split()
    if len(v2) == 2:
        return None if v2[0] == "max" else int(v2[0]) / int(v2[1])
    quota = _read_int(root / "cpu" / "cpu.cfs_quota_us")
    period = _read_int(root / "cpu" / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _memory_limit(root: Path) -> int | None:
    v2 = _read_int(root / "memory.max")  # "max" is no integer: no limit
    limit = v2 if v2 is not None else _read_int(root / "memory" / "memory.limit_in_bytes")
    return None if limit is None or limit >= _UNLIMITED_BYTES else limit


def _memory_in_use(root: Path) -> int:
    """Usage less the page cache, all of which the kernel drops before it kills: a model that was just
    downloaded, and read again to be checked, lies in its active part."""
    usage = _read_int(root / "memory.current")
    stat = _read(root / "memory.stat")
    if usage is None:
        usage = _read_int(root / "memory" / "memory.usage_in_bytes") or 0
        stat = _read(root / "memory" / "memory.stat")
    fields = dict(line.partition(" ")[::2] for line in stat.splitlines())
    # Version 1 counts its children in `total_` fields alone.
    prefix = "total_" if "total_inactive_file" in fields else ""
    cached = sum(int(fields.get(f"{prefix}{part}_file", 0)) for part in ("inactive", "active"))
    return max(usage - cached, 0)


def _meminfo_available(meminfo: Path) -> int:
    for line in _read(meminfo).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""


def _read_int(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text.lstrip("-").isdigit() else None
