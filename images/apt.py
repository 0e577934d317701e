"""Reads a Debian host's package sources: a base image is made from the mirrors that work here."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEFAULT_SECURITY_MIRROR = "http://deb.debian.org/debian-security"
_ONE_LINE = re.compile(r"^\s*deb\s+(\[[^\]]*\]\s+)?(?P<address>[^\s#]+)\s+(?P<suite>[^\s#]+)")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Addresses of a suite's main archive and of its security archive."""

    main: str
    security: str

    def sources_list(self, suite: str) -> str:
        """Returns the sources.list of an image of this suite."""
        return (
            f"deb {self.main} {suite} main\n"
            f"deb {self.main} {suite}-updates main\n"
            f"deb {self.security} {suite}-security main\n"
        )


def parse_sources(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Returns `(address, suite)` of each binary source, from one-line and deb822 files alike."""
    found: list[tuple[str, str]] = []
    for text in texts:
        for stanza in text.split("\n\n"):
            found += _deb822(stanza) or _one_line(stanza)
    return found


def host_mirrors(suite: str, folder: Path = Path("/etc/apt")) -> Mirrors:
    """Returns the host's mirrors of `suite`, or Debian's own where the host names none."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    texts = [
        path.read_text(errors="replace")
        for path in files
        if path.is_file() and path.suffix in {".list", ".sources"}
    ]
    addresses = {found: address for address, found in reversed(parse_sources(texts))}
    return Mirrors(
        main=addresses.get(suite, DEFAULT_MIRROR),
        security=addresses.get(f"{suite}-security", DEFAULT_SECURITY_MIRROR),
    )


def _deb822(stanza: str) -> list[tuple[str, str]]:
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith(("#", " ", "\t")) and " " not in name:
            fields[name.lower()] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
        return []
    return [
        (address.rstrip("/"), suite)
        for address in fields.get("uris", "").split()
        for suite in fields.get("suites", "").split()
    ]


def _one_line(stanza: str) -> list[tuple[str, str]]:
    found = []
    for line in stanza.splitlines():
        match = _ONE_LINE.match(line)
        if match:
            found.append((match["address"].rstrip("/"), match["suite"]))
    return found
