from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import octavo.kernels
from octavo.kernels.numba_setup import TARGETS, cpu_flags, x86_target
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.compiling import jit

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

# Prints where compiled functions are kept, without torch and without compiling any.
_FOLDER = """
from octavo.kernels.numba_setup import kernel_cache
print(kernel_cache())
"""


def test_the_target_is_the_highest_whose_flags_are_all_there() -> None:
    level_3, level_4, with_pair_products = TARGETS
    assert x86_target(_V4 | {"avx512_bf16", "avx512vbmi"}) == with_pair_products
    assert x86_target(_V4 | {"avx512_bf16"}) == level_4
    assert x86_target(_V4 - {"avx512vl"} | {"avx512_bf16", "avx512vbmi"}) == level_3
    assert x86_target(_V3 - {"fma"}) is None


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
    target = x86_target(cpu_flags())
    if target is None:
        pytest.skip("no level of x86-64")
    declare = (
        "from octavo.kernels.cpu.compiling import jit; import octavo.kernels.cpu; jit.compile_all()"
    )
    run(
        ["-c", declare],
        NUMBA_CACHE_DIR=str(brought),
        NUMBA_CPU_NAME=target.level,
        NUMBA_CPU_FEATURES=target.features,
    )
    before = sorted(brought.rglob("*"))
    hits = run(["-c", _PROGRAM], OCTAVO_KERNEL_CACHE=str(brought), TMPDIR=str(temporary))
    assert hits == "1"
    assert sorted(brought.rglob("*")) == before
    assert list(temporary.iterdir()) == []  # the copy is gone with its process


def test_a_change_of_any_source_makes_kernels_anew(tmp_path: Path) -> None:
    """A kernel takes its parts from files beside its own, which numba does not look at."""
    package = tmp_path / "copy" / "octavo"
    original = Path(octavo.kernels.__path__[0]).parent
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("__pycache__"))
    environ = {"PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert [run(["-c", _PROGRAM], **environ) for _ in range(2)] == ["0", "1"]
    folders = [run(["-c", _FOLDER], **environ)]
    for changed in ("cpu/compiling/vector.py", "fp4.py", "reference/weight_only.py"):
        with (package / "kernels" / changed).open("a") as file:
            file.write("\n# changed\n")
        folders.append(run(["-c", _FOLDER], **environ))
    assert len(set(folders)) == len(folders)
    assert [any(Path(folder).iterdir()) for folder in folders] == [True, False, False, False]


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run(["-c", _FOLDER], **environ) == "None"


# Prints what numba compiles for, where the caller's functions are kept, and where ours.
_BESIDE = """
import importlib
from numba.core import config
module = importlib.import_module("octavo.kernels.cpu.rms_norm")
print(config.CPU_NAME, repr(config.CACHE_DIR), module._float32.stats.cache_path, sep="\\n")
"""


def test_kernels_have_a_cache_of_their_own_and_leave_the_callers_alone(tmp_path: Path) -> None:
    name, callers, ours = run(["-c", _BESIDE], XDG_CACHE_HOME=str(tmp_path)).splitlines()
    target = x86_target(cpu_flags())
    assert name == ("None" if target is None else target.level)
    assert callers == "''"
    assert Path(ours).is_relative_to(tmp_path / "octavo" / "kernels")


def test_what_the_user_sets_is_left_alone(tmp_path: Path) -> None:
    set_by_user = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "generic"}
    name, callers, ours = run(["-c", _BESIDE], **set_by_user).splitlines()
    assert (name, callers) == ("generic", repr(str(tmp_path)))
    assert Path(ours).is_relative_to(tmp_path)


def test_a_kernel_that_no_process_would_find_again_is_refused() -> None:
    """What a function closes over is part of its name in numba's cache, and a compiled part has none that
    lasts."""

    @jit.part
    def inner(address: int) -> int:
        return address

    def kernel(address: int) -> None:
        inner(address)

    with pytest.raises(ValueError, match="closes over inner"):
        jit.team_kernel(kernel)
    with pytest.raises(ValueError, match="closes over inner"):
        jit.kernel("void(int64)")(kernel)
