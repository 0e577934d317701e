"""What is missing is told by a bare Python, before any package is there."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.preflight.packages import ALL_PACKAGES_BYTES, Purpose, packages_bytes, venv_problems
from e2e.registry import container as registry

ROOT = Path(__file__).parents[2]


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The check with neither our packages nor Go nor Docker, and a cache that holds nothing."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("apt-get", "dpkg-deb", "unshare", "tar", "ldd", "chroot"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    code = (
        "import runpy, sys; sys.path.insert(0, '.');"
        "runpy.run_module('e2e.cluster.check', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments, "--venv", str(folder / "venv")],
        cwd=ROOT,
        env={**os.environ, "PATH": str(programs), "OCTAVO_CACHE": str(folder / "c")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Docker alone is asked for")
@pytest.mark.parametrize("purpose", ["demo", "test", "cluster"])
def test_a_bare_python_tells_what_is_missing(tmp_path: Path, purpose: str) -> None:
    done = check(tmp_path, purpose)
    assert done.returncode == 1, done.stderr
    assert "Error: A cluster can't be started on this machine" in done.stderr
    assert ("Go was not found" if os.geteuid() == 0 else "not root") in done.stderr
    assert not (tmp_path / "c").exists(), "a look must leave nothing behind"


def test_packages_are_asked_for_until_they_are_there(tmp_path: Path) -> None:
    assert packages_bytes(Purpose.TEST, tmp_path) == ALL_PACKAGES_BYTES
    assert 0 < packages_bytes(Purpose.DEMO, tmp_path) < ALL_PACKAGES_BYTES
    (tmp_path / ".tools").touch()
    assert packages_bytes(Purpose.DEMO, tmp_path) == 0
    assert packages_bytes(Purpose.TEST, tmp_path) == ALL_PACKAGES_BYTES
    (tmp_path / ".dev").touch()
    assert packages_bytes(Purpose.TEST, tmp_path) == 0


def test_a_python_without_its_venv_module_and_a_full_disk_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    module, disk = venv_problems(tmp_path / "venv", 10**18)
    assert "apt-get install python3-venv" in module
    assert "VENV" in disk
    (tmp_path / "venv").mkdir()
    assert venv_problems(tmp_path / "venv", 0) == []


def test_a_port_is_taken_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(registry, "PORT", listener.getsockname()[1])
        assert registry.port_is_taken()
    assert not registry.port_is_taken()
