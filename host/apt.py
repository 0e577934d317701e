"""Package sources of a Debian host: what is bootstrapped comes from the mirrors that work here.

`$OCTAVO_DEBIAN_MIRROR` names another main archive. Its security archive lies beside it, as on Debian's
own mirrors, unless the host's sources name one. python-apt and python-debian read such files too, and a
bare Python has neither. No mirror's address stands here: a host whose sources name none must be told one.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from host.errors import ToolError

VARIABLE = "OCTAVO_DEBIAN_MIRROR"
# What debootstrap reads from, and what names a file that lists such addresses.
_READABLE = re.compile(r"(?:(?:https?|ftp)://[^\s/]+(?:/\S*)?|file:/\S+)")
_LIST_OF_MIRRORS = "mirror+file:"
_PASSWORD = re.compile(r"\w+://[^/@]*@")
_ONE_LINE = re.compile(r"^\s*deb\s+(\[[^\]]*\]\s+)?(?P<address>[^\s#]+)\s+(?P<rest>[^\s#][^#]*)")
_STANZA = re.compile(r"\n[ \t]*\n")
# As apt reads a switch.
_OFF = ("no", "false", "without", "off", "disable", "0")


@dataclass(frozen=True, slots=True)
class Source:
    """An address, and one of the suites that are taken from there."""

    address: str
    suite: str
    components: tuple[str, ...]


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


def parse_sources(texts: Iterable[str]) -> list[Source]:
    """Returns the binary sources, from one-line and deb822 files alike."""
    found: list[Source] = []
    for text in texts:
        for stanza in _STANZA.split("\n".join(text.splitlines())):
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
        Source(address, source.suite, source.components)
        for source in parse_sources(texts)
        if "main" in source.components
        for address in _readable(source.address)
    ]
    main = _chosen(environ) or _main_mirror(suite, sources)
    if not main:
        raise ToolError(
            f"No mirror of Debian {suite} is known: the package sources in {folder} name none",
            hint=f"Set {VARIABLE} to the address of a mirror's main archive, which ends in /debian, or "
            "start a Docker engine that can pull images.",
        )
    security = _security_mirror(suite, sources) or _beside(main)
    for address in (main, security):
        if _PASSWORD.match(address):
            raise ToolError(
                f"The mirror {_PASSWORD.sub('…@', address)} is asked with a password, which would stay in "
                "the image",
                hint=f"Set {VARIABLE} to a mirror that wants none.",
            )
    return Mirrors(main, security)


def _chosen(environ: Mapping[str, str]) -> str | None:
    """By the user. Raises ToolError."""
    given = environ.get(VARIABLE, "").strip()
    if given and not _READABLE.fullmatch(given):
        raise ToolError(
            f"{VARIABLE} is {given!r}, which is no address of a mirror",
            hint="It reads as http://HOST/debian, or file:/FOLDER for one on this machine.",
        )
    return given.rstrip("/") or None


def _readable(address: str) -> Iterator[str]:
    """The address, or the first one of the list that it names, as on Debian's cloud images; nothing of what
    apt alone can read, such as a disc."""
    if address.startswith(_LIST_OF_MIRRORS):
        listed = Path(address.removeprefix(_LIST_OF_MIRRORS))
        lines = listed.read_text(errors="replace").splitlines() if listed.is_file() else []
        named = (line.split() for line in lines if line.strip() and not line.startswith("#"))
        address = next((words[0].rstrip("/") for words in named), "")
    if _READABLE.fullmatch(address):
        yield address


def _main_mirror(suite: str, sources: list[Source]) -> str | None:
    """Others offer packages for a suite too, some of them at paths like Debian's: what has the suite's
    updates beside it comes first."""
    suites_of: dict[str, set[str]] = {}
    for source in sources:
        suites_of.setdefault(source.address, set()).add(source.suite)

    def rank(address: str) -> tuple[bool, bool, bool]:
        suites = suites_of[address]
        # At such a path others have one suite of this name.
        is_debians = address.endswith("/debian") and suites != {"stable"}
        has_updates = any(f"{one}-updates" in suites for one in (suites if is_debians else {suite}))
        return has_updates, suite in suites, is_debians

    best = max(suites_of, key=rank, default=None)
    return best if best is not None and any(rank(best)) else None


def _security_mirror(suite: str, sources: list[Source]) -> str | None:
    of_suite = [one.address for one in sources if one.suite == f"{suite}-security"]
    of_debian = [one.address for one in sources if one.address.endswith("/debian-security")]
    return next(iter(of_suite + of_debian), None)


def _beside(main: str) -> str:
    """Where a mirror has its security archive; in a snapshot the time comes behind both names."""
    before, name, behind = main.rpartition("/debian")
    is_whole = bool(name) and behind[:1] in ("", "/")
    return f"{before}/debian-security{behind}" if is_whole else f"{main}-security"


def _deb822(stanza: str) -> list[Source]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith((" ", "\t")):  # more of the field before
            if name:
                fields[name] += f" {line.strip()}"
            continue
        name, colon, value = line.partition(":")
        name = name.lower() if colon and " " not in name else ""
        if name:
            fields[name] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "").lower() in _OFF:
        return []
    return [
        Source(address.rstrip("/"), suite, tuple(fields.get("components", "").split()))
        for address in fields.get("uris", "").split()
        for suite in fields.get("suites", "").split()
    ]


def _one_line(stanza: str) -> list[Source]:
    found = []
    for line in stanza.splitlines():
        match = _ONE_LINE.match(line)
        if match:
            suite, *components = match["rest"].split()
            found.append(Source(match["address"].rstrip("/"), suite, tuple(components)))
    return found
