from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.kernels.numba_setup import x86_level

pytest.importorskip("numba")

_V3 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm", "sse2"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Runs one kernel and prints how many compiled functions came out of the cache.
_PROGRAM = """
import importlib
import torch
module = importlib.import_module("octavo.kernels.cpu.rms_norm")
module.rms_norm(torch.ones(1, 16), torch.ones(16), 1e-6)
print(sum(module._float32.stats.cache_hits.values()))
"""


def test_the_level_is_the_highest_whose_flags_are_all_there() -> None:
    assert x86_level(_V4) == "x86-64-v4"
    assert x86_level(_V4 - {"avx512vl"}) == "x86-64-v3"
    assert x86_level(_V3 - {"fma"}) is None


def run(arguments: list[str], **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_a_cache_that_an_image_brings_is_used_where_it_cannot_be_written(tmp_path: Path) -> None:
    brought, temporary = tmp_path / "brought", tmp_path / "tmp"
    brought.mkdir()
    temporary.mkdir()
    level = x86_level(
        set(
            next(
                (
                    line.partition(":")[2]
                    for line in Path("/proc/cpuinfo").read_text().splitlines()
                    if line.startswith("flags")
                ),
                "",
            ).split()
        )
    )
    if level is None:
        pytest.skip("no level of x86-64")
    declare = "from octavo.kernels.cpu import jit; jit.compile_all()"
    run(
        ["-c", declare],
        NUMBA_CACHE_DIR=str(brought),
        NUMBA_CPU_NAME=level,
        NUMBA_CPU_FEATURES="",
    )
    before = sorted(brought.rglob("*"))
    hits = run(["-c", _PROGRAM], OCTAVO_KERNEL_CACHE=str(brought), TMPDIR=str(temporary))
    assert hits == "1"
    assert sorted(brought.rglob("*")) == before
    assert list(temporary.iterdir()) == []  # the copy is gone with its process
