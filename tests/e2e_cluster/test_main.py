"""Before the tools are there, a command that needs them says which ones do, and what needs none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_bare_python_is_told_in_one_line_what_to_do(command: str) -> None:
    code = (
        "import runpy, sys; sys.path.insert(0, '.');"
        "runpy.run_module('e2e.cluster', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert (
        f"`make .venv/.tools` makes one that has it: .venv/bin/python -m e2e.cluster {command}."
        in line
    )
    assert "python3 -m e2e.cluster.down" in line
