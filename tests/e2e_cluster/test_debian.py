"""Debian's archive and the unpacked programs are found on machines set up in different ways."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster.debian import Unpacked, mirror_in


def test_deb822_sources_name_the_archive() -> None:
    text = "Types: deb\nURIs: https://mirror.example.org/debian/\nSuites: bookworm\n"
    assert mirror_in(text) == "https://mirror.example.org/debian"


def test_one_line_sources_with_options_name_the_archive() -> None:
    assert (
        mirror_in("deb [signed-by=/k] http://a.org/debian bookworm main\n") == "http://a.org/debian"
    )


def test_security_and_foreign_archives_are_passed_over() -> None:
    text = "deb http://deb.debian.org/debian-security bookworm main\ndeb https://x.org/apt y main\n"
    assert mirror_in(text) is None


def test_a_commented_archive_is_not_used() -> None:
    assert mirror_in("# deb http://deb.debian.org/debian bookworm main\n") is None


def test_unpacked_programs_come_first_and_the_rest_stays(tmp_path: Path) -> None:
    environment = Unpacked(tmp_path).environment({"PATH": "/usr/bin", "HOME": "/root"})
    folders = environment["PATH"].split(":")
    assert folders[0] == f"{tmp_path}/usr/sbin"
    assert "/usr/bin" in folders
    assert environment["HOME"] == "/root"
    assert "LD_LIBRARY_PATH" not in environment
