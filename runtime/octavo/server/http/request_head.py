"""Head of a request: what HTTP wants of one (RFC 9112) that the parser does not ask for.

With such a fault nobody can tell what the client and those between it and the server take for the request, or
where it ends: it is answered with the fault, and the connection ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.server.http.hosts import host_of

_VERSIONS = ("1.0", "1.1")
_SHOWN_CHARS = 256
_TUNNEL = (
    "This server is no proxy: it has no method CONNECT. Take it out of the client's proxy settings."
)
_OLD_WITH_CODING = (
    "The request is of HTTP/1.0 and has a Transfer-Encoding, which that version does not know. Send "
    "Content-Length instead, or HTTP/1.1."
)


def head_fault(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """What is wrong and what to do; None: nothing.

    Args:
        version: `1.1` and the like.
        headers: By their names in lower case.
    """
    if version not in _VERSIONS:
        return f"The request is of HTTP/{version}, which is not spoken here. Send HTTP/1.1 or HTTP/1.0."
    if method == b"CONNECT":
        return _TUNNEL
    if version == "1.0" and any(name == b"transfer-encoding" for name, _ in headers):
        return _OLD_WITH_CODING
    return _host_fault(version, [value for name, value in headers if name == b"host"])


def _host_fault(version: str, hosts: list[bytes]) -> str | None:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return (
            f"The request has {len(hosts)} Host headers; HTTP/1.1 wants one. Send the server's name or "
            "address there, once."
        )
    host = hosts[0].decode("latin-1") if hosts else None
    if host is not None and host_of(host) is None:
        return f"Host is {host[:_SHOWN_CHARS]!r}; it must be a name or an address, and perhaps : and a port."
    return None
