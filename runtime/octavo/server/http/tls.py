"""TLS of the HTTP port: the files that it needs, looked at before a model is loaded."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import InvalidConfigurationError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """In PEM. With `ca_certs` a client must show a certificate that one of these signed."""

    certfile: Path
    keyfile: Path
    ca_certs: Path | None = None

    @property
    def uvicorn_options(self) -> dict[str, Any]:
        return {
            "ssl_certfile": str(self.certfile),
            "ssl_keyfile": str(self.keyfile),
            "ssl_ca_certs": None if self.ca_certs is None else str(self.ca_certs),
            "ssl_cert_reqs": ssl.CERT_NONE if self.ca_certs is None else ssl.CERT_REQUIRED,
        }


def read_tls(certfile: Path | None, keyfile: Path | None, ca_certs: Path | None) -> TlsFiles | None:
    """None where no TLS is asked for. Raises `InvalidConfigurationError`, which tells the option."""
    given = {"ssl_certfile": certfile, "ssl_keyfile": keyfile, "ssl_ca_certs": ca_certs}
    if not any(given.values()):
        return None
    if certfile is None or keyfile is None:
        missing = "ssl_certfile" if certfile is None else "ssl_keyfile"
        told = next(name for name, path in given.items() if path is not None)
        raise InvalidConfigurationError(
            f"{told} is given and {missing} is not; TLS needs a certificate and its key."
        )
    for name, path in given.items():
        if path is not None and not path.is_file():
            raise InvalidConfigurationError(f"{name} is {path}; there is no such file.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase would make the server ask at a terminal that nobody reads.
        context.load_cert_chain(certfile, keyfile, password="")
        if ca_certs is not None:
            context.load_verify_locations(ca_certs)
    except (OSError, ValueError) as error:  # `SSLError` is an OSError
        raise InvalidConfigurationError(
            f"TLS cannot be had with ssl_certfile {certfile}, ssl_keyfile {keyfile}"
            f"{'' if ca_certs is None else f' and ssl_ca_certs {ca_certs}'}: {error}"
        ) from None
    return TlsFiles(certfile, keyfile, ca_certs)
