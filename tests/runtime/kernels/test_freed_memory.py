"""Memory that CPU kernels work on, held as long as they do."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to unmap")
def test_no_kernel_touches_what_it_has_freed() -> None:
    command = [sys.executable, "-m", "tests.support.kernels.freed_memory"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
