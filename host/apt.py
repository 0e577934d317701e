"""Package sources of a Debian host: what is bootstrapped comes from the mirrors that work here.

`$OCTAVO_DEBIAN_MIRROR` names another main archive. Its security archive lies beside it, as on Debian's
own mirrors, unless the host's sources name one. python-apt and python-debian read such files too, and a
bare Python has neither. No mirror's address stands here: a host whose sources name none must be told one.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from host.errors import ToolError

# What debootstrap reads from, and what names a file that lists such addresses.
_READABLE = ("http://", "https://", "ftp://", "file:")
_LIST_OF_MIRRORS = "mirror+file:"
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


def host_mirrors(
    suite: str, folder: Path = Path("/etc/apt"), environ: Mapping[str, str] = os.environ
) -> Mirrors:
    """Returns the host's mirrors of `suite`; raises ToolError where neither it nor the user names one.

    A Debian of another suite names mirrors too: one whose path is Debian's holds every suite.
    """
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    texts = [
        path.read_text(errors="replace")
        for path in files
        if path.is_file() and path.suffix in {".list", ".sources"}
    ]
    sources = [
        (address, found)
        for given, found in parse_sources(texts)
        if (address := _readable(given)) is not None
    ]
    chosen = environ.get("OCTAVO_DEBIAN_MIRROR", "").rstrip("/")
    main = chosen or _mirror_of(suite, "/debian", sources)
    if not main:
        raise ToolError(
            f"No mirror of Debian {suite} is known: the package sources in {folder} name none",
            hint="Set OCTAVO_DEBIAN_MIRROR to the address of a mirror's main archive, which ends in "
            "/debian, or start a Docker engine that can pull images.",
        )
    beside = f"{main}-security"
    return Mirrors(main, _mirror_of(f"{suite}-security", "/debian-security", sources) or beside)


def _readable(address: str) -> str | None:
    """The address, or the first one of the list that it names, as on Debian's cloud images; None for what
    apt alone can read, such as a disc."""
    if address.startswith(_LIST_OF_MIRRORS):
        listed = Path(address.removeprefix(_LIST_OF_MIRRORS))
        lines = listed.read_text(errors="replace").splitlines() if listed.is_file() else []
        named = (line.split() for line in lines if line.strip() and not line.startswith("#"))
        address = next((words[0].rstrip("/") for words in named), "")
    return address if address.startswith(_READABLE) else None


def _mirror_of(suite: str, path: str, sources: list[tuple[str, str]]) -> str | None:
    of_suite = [address for address, found in sources if found == suite]
    of_debian = [address for address, _ in sources if address.endswith(path)]
    return next(iter(of_suite + of_debian), None)


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
