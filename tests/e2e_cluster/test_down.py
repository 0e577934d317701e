"""Taking down needs a bare Python, and none of the packages that brought the cluster up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def down(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with neither our packages nor Docker; never `--all`, which tidies the machine up."""
    code = (
        "import runpy, sys; sys.path.insert(0, '.');"
        "runpy.run_module('e2e.cluster.down', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": str(cache), "OCTAVO_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_bare_python_takes_a_cluster_down(tmp_path: Path) -> None:
    folder = tmp_path / "clusters/mine"
    folder.mkdir(parents=True)
    record = {"is_kind": False, "enforces_network_policy": None}
    (folder / "cluster.json").write_text(json.dumps(record))
    done = down(tmp_path, "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert not folder.exists()
    assert "Nothing to take down" in down(tmp_path, "--name", "mine").stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
def test_make_installs_nothing_to_take_down(tmp_path: Path) -> None:
    command = ["make", "--dry-run", "cluster-down", f"VENV={tmp_path / 'none'}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "e2e.cluster.down --all" in told
    assert "pip" not in told
