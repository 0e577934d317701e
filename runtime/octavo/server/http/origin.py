"""Origin of a web page: scheme, host and port, written as browsers send it."""

from __future__ import annotations

import re

from octavo.server.http.addresses import url_host

ANY = "*"
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[^/:?#@\[\]\\\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_HOST = re.compile(r"[a-z0-9_.-]+")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def normalized_origin(text: str) -> str:
    """In lower case, without a slash at its end and the scheme's own port; `*` is everybody's.

    Raises:
        ValueError: No page has this origin; the message says what to write.
    """
    if text == ANY:
        return ANY
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError("give * or scheme://host[:port], without a path")
    scheme, host, port = found["scheme"], _normalized_host(found["host"]), found["port"]
    if port is None or _DEFAULT_PORTS.get(scheme) == int(port):
        return f"{scheme}://{host}"
    if not 0 < int(port) < 2**16:
        raise ValueError("its port must lie in [1, 65535]")
    return f"{scheme}://{host}:{int(port)}"


def _normalized_host(host: str) -> str:
    if "*" in host:
        raise ValueError("* stands for all origins and for no part of one; name each host")
    if not host.isascii():
        raise ValueError("write its host in ASCII, as browsers send it (xn--…)")
    if host.startswith("["):
        return _address(host)
    if not _HOST.fullmatch(host):
        raise ValueError("its host may hold letters, digits, -, _ and . alone")
    # What ends with a number, browsers read as an address.
    return _address(host) if NUMBER.fullmatch(host.rpartition(".")[2]) else host


def _address(text: str) -> str:
    try:
        return url_host(text)
    except ValueError:
        raise ValueError("its host is no IP address written in full") from None
