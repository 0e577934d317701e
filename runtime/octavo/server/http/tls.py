"""TLS of the HTTP port: what it is made of, as the processes of a server hand it on, and what new connections
are encrypted by, which changes while the server runs.

Each change is a context of its own: one that is loaded anew would have the new certificate beside the old key
when the two do not fit, and authorities that were taken out.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

_PROTOCOLS = ["http/1.1"]


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """Args:
    certificates: The server's, with its chain; in PEM, as all here.
    authorities: Who signs clients' certificates; None: no client is asked for one.
    client_certificates: Whether they are asked for one, and must show it.
    ciphers: Of TLS 1.2, as OpenSSL lists them; None: its own choice.
    """

    certificates: bytes
    key: bytes = field(repr=False)
    authorities: bytes | None = None
    client_certificates: ssl.VerifyMode = ssl.CERT_NONE
    ciphers: str | None = None


class Encryption:
    """Of the connections that come from now on; `context` is asked for with each."""

    def __init__(self, material: TlsMaterial) -> None:
        self.context = server_context(material)

    def take(self, material: TlsMaterial) -> None:
        """What `server_context` has taken before."""
        self.context = server_context(material)


def server_context(material: TlsMaterial) -> ssl.SSLContext:
    """Raises `OSError` (`ssl.SSLError`) or `ValueError` where it does not do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(_PROTOCOLS)
    with _file(material.certificates) as certfile, _file(material.key) as keyfile:
        # A key with a passphrase would make the server ask at a terminal that nobody reads.
        context.load_cert_chain(certfile, keyfile, password="")
    if material.authorities is not None:
        context.load_verify_locations(cadata=material.authorities.decode("ascii"))
        context.verify_mode = material.client_certificates
    if material.ciphers is not None:
        context.set_ciphers(material.ciphers)
    return context


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path to it, for OpenSSL, which reads keys from files alone. It lies in memory: what was read once is
    what is loaded, and no key is left on a disk."""
    with os.fdopen(os.memfd_create("octavo-tls"), "wb", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        yield f"/proc/self/fd/{file.fileno()}"
