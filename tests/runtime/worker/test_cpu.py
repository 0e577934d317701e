"""Limits of a pod are read from cgroup files, versions 1 and 2; memory is given back."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from octavo.errors import InvalidConfigurationError
from octavo.worker.machine import (
    available_cpus,
    available_memory_bytes,
    has_fast_bfloat16,
    return_freed_memory,
    threads_for,
)

GIB = 2**30
CORES = len(os.sched_getaffinity(0))


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, CORES),
        ({"cpu.max": "99999900000 100000"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, CORES),
        ({}, CORES),
    ],
)
def test_cpu_limits(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    assert available_cpus(lay_out(tmp_path, files), {}) == cpus


@pytest.mark.skipif(CORES < 2, reason="needs two cores to tell a rounding")
def test_part_of_a_cpu_counts_as_one(tmp_path: Path) -> None:
    assert available_cpus(lay_out(tmp_path, {"cpu.max": "150000 100000"}), {}) == 2


@pytest.mark.parametrize(
    ("environment", "cpus"),
    [
        ({"OCTAVO_CPUS": "1"}, 1),
        ({"OCTAVO_CPUS": "100000"}, CORES),
        ({"OCTAVO_CPUS": ""}, CORES),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1,4"}, 1),
        ({"OMP_NUM_THREADS": "100000", "OCTAVO_CPUS": "1"}, 1),
        ({"OMP_NUM_THREADS": "many"}, CORES),
        ({"OMP_NUM_THREADS": "0"}, CORES),
    ],
)
def test_the_environment_lowers_the_number_of_cores(
    tmp_path: Path, environment: dict[str, str], cpus: int
) -> None:
    assert available_cpus(tmp_path, environment) == cpus


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "²"])
def test_a_number_of_cores_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"OCTAVO_CPUS is '{text}'"):
        available_cpus(tmp_path, {"OCTAVO_CPUS": text})


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max"}, 8 * GIB),
        ({"memory.max": str(2 * GIB), "memory.current": str(GIB)}, GIB),
        (
            {
                "memory.max": str(2 * GIB),
                "memory.current": str(2 * GIB),
                "memory.stat": f"anon 5\ninactive_file {GIB}",
            },
            GIB,  # the page cache goes first
        ),
        (
            {
                "memory.max": str(4 * GIB),
                "memory.current": str(4 * GIB),
                "memory.stat": f"active_file {2 * GIB}\ninactive_file {GIB}\nfile {4 * GIB}",
            },
            3 * GIB,  # what was read twice goes too; tmpfs, the rest of `file`, stays
        ),
        ({"memory.max": str(GIB), "memory.current": str(2 * GIB)}, 0),
        ({"memory.max": str(99 * GIB), "memory.current": "0"}, 8 * GIB),
        (
            {
                "memory/memory.limit_in_bytes": str(3 * GIB),
                "memory/memory.usage_in_bytes": str(2 * GIB),
                "memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}",
            },
            2 * GIB,
        ),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 8 * GIB),
    ],
)
def test_memory_limits(tmp_path: Path, files: dict[str, str], free: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    assert available_memory_bytes(lay_out(tmp_path / "cgroup", files), meminfo) == free


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features : fp asimd bf16\n", True),
        ("flags : fpu avx2 f16c\n", False),
        ("", False),
    ],
)
def test_bfloat16_instructions(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert has_fast_bfloat16(path) is expected
    assert has_fast_bfloat16(tmp_path / "absent") is False


def test_tiny_models_run_on_one_thread() -> None:
    assert threads_for(2_000_000, 8) == 1
    assert threads_for(600_000_000, 8) == 8


def test_freed_memory_goes_back_to_the_system() -> None:
    """What lies under something that lives is kept by the C library, unless it is told."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    size, count = 100_000, 1000
    blocks = [bytearray(b"x") * size for _ in range(count)]
    top = bytearray(b"x") * size
    held = _anonymous_bytes()
    del blocks
    return_freed_memory()
    assert held - _anonymous_bytes() > size * count * 0.9
    assert len(top) == size


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024
