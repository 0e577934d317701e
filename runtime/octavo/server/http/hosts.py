"""Host check: which names the HTTP port answers under, against DNS rebinding.

A page whose name an attacker's DNS turns to this machine's address is, to the browser, of the same origin as
the server: neither CORS nor the origin's check sees it. What it cannot change is the name in `Host`. An
address, and `localhost`, nobody's DNS decides: they are always answered.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from octavo.server.http.addresses import url_host
from octavo.server.http.asgi import Scope, header
from octavo.server.http.origin import NUMBER
from octavo.server.openai.api_errors import ApiError

ANY = "*"
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{0,5})?")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def normalized_host(name: str) -> str:
    """In lower case, without the dot of a full name, an address as a URL has it. `*` is every name,
    `*.example.org` those below one.

    Raises:
        ValueError: It is no name of a host; the message says what to write.
    """
    if name == ANY:
        return ANY
    plain = name.lower().removesuffix(".")
    if _NAME.fullmatch(plain) and not _is_numeric(plain):
        return plain
    try:
        return url_host(plain)
    except ValueError:
        raise ValueError(
            "give a host's name, an address in full, without scheme and port, *.example.org, or *"
        ) from None


def _is_numeric(name: str) -> bool:
    """Whether all of its parts are numbers: it was meant as an address. A Service in a namespace called 12
    has a name that ends with one."""
    return all(NUMBER.fullmatch(part) for part in name.removeprefix("*.").split("."))


def default_hosts(address: str, *, has_api_key: bool) -> tuple[str, ...]:
    """Who listens on this machine alone, without a key, is asked by programs on it, by no other name."""
    return () if is_loopback(address) and not has_api_key else (ANY,)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if _is_localhost(host.lower()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(value: str) -> str | None:
    """The name or address in a `Host`, in lower case, without port and a full name's dot; None: it is neither
    of them."""
    found = _HOST.fullmatch(value.lower())
    return None if found is None else found["name"].removesuffix(".")


class AllowedHosts:
    """Names as `normalized_host` takes them, beside addresses and `localhost`. Raises `ValueError`."""

    def __init__(self, names: Sequence[str]) -> None:
        known = [normalized_host(name) for name in names]
        self._is_any = ANY in known
        self._names = frozenset(name for name in known if not name.startswith("*"))
        self._suffixes = tuple(name[1:] for name in known if name.startswith("*."))

    def check(self, scope: Scope) -> None:
        """Raises `ApiError` (403) where `Host` has a name that is not allowed. A request of HTTP/1.0 may have
        none, which no browser sends."""
        host = header(scope, b"host")
        if host is None or self._is_any:
            return
        name = host_of(host)
        if name is None or not self._is_allowed(name):
            raise ApiError(
                403,
                f"This server does not answer as {host[:256]!r}. Add the name to --allowed-hosts, or ask by "
                "an address or localhost.",
                code="host_not_allowed",
            )

    def _is_allowed(self, name: str) -> bool:
        return (
            name in self._names
            or name.endswith(self._suffixes)
            or _is_localhost(name)
            or _is_address(name)
        )


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
