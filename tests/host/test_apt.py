"""The base image is made from the mirrors that the host itself uses."""

from pathlib import Path

import pytest

from host.apt import Mirrors, host_mirrors, parse_sources
from host.errors import ToolError

DEB822 = """\
# the main archive
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
"""


def test_deb822_sources_are_read() -> None:
    assert parse_sources([DEB822]) == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/security", "bookworm-security"),
    ]


def test_one_line_sources_are_read_with_options_and_comments() -> None:
    text = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] http://one.example/debian/ bookworm main # why\n"
        "deb [trusted=yes] http://two.example/x stable main\n"
        "deb-src http://three.example/debian bookworm main\n"
    )
    assert parse_sources([text]) == [
        ("http://one.example/debian", "bookworm"),
        ("http://two.example/x", "stable"),
    ]


def test_the_hosts_mirrors_are_found_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.list.save").write_text("deb http://x.example bookworm main")
    assert host_mirrors("bookworm", tmp_path, {}) == Mirrors(
        main="http://mirror.example/debian", security="http://mirror.example/security"
    )


@pytest.mark.parametrize("sources", ["", "deb http://mirror.example/ubuntu noble main\n"])
def test_a_host_that_names_no_debian_mirror_is_told_what_is_missing(
    tmp_path: Path, sources: str
) -> None:
    (tmp_path / "sources.list").write_text(sources)
    with pytest.raises(ToolError, match=r"bookworm[\s\S]*OCTAVO_DEBIAN_MIRROR"):
        host_mirrors("bookworm", tmp_path, {})


def test_the_security_archive_lies_beside_a_main_one_that_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    assert (
        host_mirrors("bookworm", tmp_path, {}).security == "http://mirror.example/debian-security"
    )


def test_a_debian_of_another_suite_lends_its_mirrors(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb https://packages.example/apt trixie main\n"
        "deb http://mirror.example/debian/ trixie main\n"
        "deb http://mirror.example/debian-security trixie-security main\n"
    )
    assert host_mirrors("bookworm", tmp_path, {}) == Mirrors(
        main="http://mirror.example/debian", security="http://mirror.example/debian-security"
    )


def test_the_environment_names_another_mirror(tmp_path: Path) -> None:
    environ = {"OCTAVO_DEBIAN_MIRROR": "http://chosen.example/debian/"}
    assert host_mirrors("bookworm", tmp_path, environ) == Mirrors(
        main="http://chosen.example/debian", security="http://chosen.example/debian-security"
    )
    (tmp_path / "sources.list").write_text(DEB822)
    assert host_mirrors("bookworm", tmp_path, environ) == Mirrors(
        main="http://chosen.example/debian", security="http://mirror.example/security"
    )


def test_the_image_gets_updates_and_security() -> None:
    lines = Mirrors(main="http://m", security="http://s").sources_list("bookworm").splitlines()
    assert lines == [
        "deb http://m bookworm main",
        "deb http://m bookworm-updates main",
        "deb http://s bookworm-security main",
    ]


def test_a_list_of_mirrors_is_read_and_a_disc_is_none(tmp_path: Path) -> None:
    """As on the images that clouds start machines from."""
    listed = tmp_path / "mirrors/debian.list"
    listed.parent.mkdir()
    (tmp_path / "sources.list").write_text(
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb cdrom:/disc/debian bookworm main\n"
        f"deb mirror+file://{listed} bookworm main\n"
    )
    with pytest.raises(ToolError, match="No mirror of Debian bookworm"):
        host_mirrors("bookworm", tmp_path, {})
    listed.write_text(
        "# the nearest\n\nhttps://mirror.example/debian/ priority:1\nhttps://b/debian\n"
    )
    assert host_mirrors("bookworm", tmp_path, {}).main == "https://mirror.example/debian"
