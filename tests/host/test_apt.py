"""The base image is made from the mirrors that the host itself uses."""

from pathlib import Path

import pytest

from host.apt import Mirrors, Source, host_mirrors, parse_sources
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


OVER_LINES = """\
Types: deb
URIs: http://mirror.example/debian
 http://mirror.example/b/
# between
Suites:
\tbookworm
Components: main
 contrib
   \r
Enabled: False
Types: deb
URIs: http://off.example/debian
Suites: bookworm
"""


def test_deb822_sources_are_read() -> None:
    assert parse_sources([DEB822]) == [
        Source("http://mirror.example/debian", "bookworm", ("main",)),
        Source("http://mirror.example/debian", "bookworm-updates", ("main",)),
        Source("http://mirror.example/security", "bookworm-security", ("main",)),
    ]
    assert parse_sources([OVER_LINES]) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.example/b", "bookworm", ("main", "contrib")),
    ]


def test_one_line_sources_are_read_with_options_and_comments() -> None:
    text = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] http://one.example/debian/ bookworm main # why\n"
        "deb [trusted=yes] http://two.example/x stable main\n"
        "deb-src http://three.example/debian bookworm main\n"
    )
    assert parse_sources([text]) == [
        Source("http://one.example/debian", "bookworm", ("main",)),
        Source("http://two.example/x", "stable", ("main",)),
    ]


def test_the_hosts_mirrors_are_found_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.list.save").write_text("deb http://x.example bookworm main")
    assert host_mirrors("bookworm", tmp_path, {}) == Mirrors(
        main="http://mirror.example/debian", security="http://mirror.example/security"
    )


UBUNTU = (
    "deb http://mirror.example/ubuntu noble main universe\n"
    "deb http://mirror.example/ubuntu noble-updates main universe\n"
)


@pytest.mark.parametrize(
    "sources",
    ["", UBUNTU, f"{UBUNTU}deb https://packages.example/debian stable main\n", "deb http://a /\n"],
)
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


@pytest.mark.parametrize(
    ("own", "main"),
    [
        ("deb http://m.example/debian bookworm main\n", "http://m.example/debian"),
        # Of another suite, told by its updates.
        (
            "deb http://m.example/debian trixie main\ndeb http://m.example/debian trixie-updates main\n",
            "http://m.example/debian",
        ),
        # A company's mirror, at a path of its own.
        (
            "".join(
                f"deb http://m.example/remote {s} main\n" for s in ("bookworm", "bookworm-updates")
            ),
            "http://m.example/remote",
        ),
    ],
)
def test_who_offers_packages_for_the_suite_is_no_mirror_of_it(
    tmp_path: Path, own: str, main: str
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.list").write_text(
        "deb https://tunnel.example/cloud bookworm main\n"
        "deb https://engine.example/linux/debian bookworm stable\n"
    )
    (tmp_path / "sources.list.d/b.list").write_text(own)
    assert host_mirrors("bookworm", tmp_path, {}).main == main


@pytest.mark.parametrize(
    ("given", "mirrors"),
    [
        (" http://m/debian/ ", Mirrors("http://m/debian", "http://m/debian-security")),
        ("file:/srv/debian", Mirrors("file:/srv/debian", "file:/srv/debian-security")),
        (
            "https://m/archive/debian/20260101T000000Z",
            Mirrors(
                "https://m/archive/debian/20260101T000000Z",
                "https://m/archive/debian-security/20260101T000000Z",
            ),
        ),
        (
            "http://m/debian-remote",
            Mirrors("http://m/debian-remote", "http://m/debian-remote-security"),
        ),
        ("mirror.example/debian", "no address of a mirror"),
        ("/srv/debian", "no address of a mirror"),
        ("http://", "no address of a mirror"),
        ("http://a/debian http://b/debian", "no address of a mirror"),
        ("https://me:secret@m/debian", "The mirror …@m/debian is asked with a password"),
    ],
)
def test_forms_of_the_variable(tmp_path: Path, given: str, mirrors: Mirrors | str) -> None:
    environ = {"OCTAVO_DEBIAN_MIRROR": given}
    if isinstance(mirrors, Mirrors):
        assert host_mirrors("bookworm", tmp_path, environ) == mirrors
        return
    with pytest.raises(ToolError, match=mirrors) as caught:
        host_mirrors("bookworm", tmp_path, environ)
    assert "secret" not in str(caught.value)


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
