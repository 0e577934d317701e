"""Unpacked programs are found before the machine's own."""

from __future__ import annotations

from pathlib import Path

from host.debian import Unpacked


def test_unpacked_programs_come_first_and_the_rest_stays(tmp_path: Path) -> None:
    environment = Unpacked(tmp_path).environment({"PATH": "/usr/bin", "HOME": "/root"})
    folders = environment["PATH"].split(":")
    assert folders[0] == f"{tmp_path}/usr/sbin"
    assert "/usr/bin" in folders
    assert environment["HOME"] == "/root"
    assert "LD_LIBRARY_PATH" not in environment
