"""Unpacked programs are found before the machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.debian import Unpacked, unpacked
from host.errors import ToolError


def test_unpacked_programs_come_first_and_the_rest_stays(tmp_path: Path) -> None:
    environment = Unpacked(tmp_path).environment({"PATH": "/usr/bin", "HOME": "/root"})
    folders = environment["PATH"].split(":")
    assert folders[0] == f"{tmp_path}/usr/sbin"
    assert "/usr/bin" in folders
    assert environment["HOME"] == "/root"
    assert "LD_LIBRARY_PATH" not in environment


def test_a_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ToolError, match="debootstrap would be unpacked by apt-get, and this machine"
    ):
        unpacked("x", ["debootstrap"], ["debootstrap"], tmp_path, tmp_path / "log")
