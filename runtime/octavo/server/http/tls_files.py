"""TLS files: certificate, key and authorities as `--ssl-certfile` and its like name them, and what is said of
those that do not do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import InvalidConfigurationError
from octavo.server.http.tls import TlsMaterial, server_context

MAX_BYTES = 2**20
"""Of one file: what a Secret may hold."""
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_LOCKED = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """In PEM, with what goes with them.

    Args:
        ca_certs: Who signs clients' certificates.
        client_certificates, ciphers: As `TlsMaterial` has them.
    """

    certfile: Path
    keyfile: Path
    ca_certs: Path | None = None
    client_certificates: ssl.VerifyMode = ssl.CERT_NONE
    ciphers: str | None = None

    def read(self) -> TlsMaterial:
        """As the files are now. Raises `InvalidConfigurationError`, which tells the option."""
        return TlsMaterial(
            _content("ssl_certfile", self.certfile),
            _content("ssl_keyfile", self.keyfile),
            None if self.ca_certs is None else _content("ssl_ca_certs", self.ca_certs),
            self.client_certificates,
            self.ciphers,
        )

    def check(self, material: TlsMaterial) -> None:
        """That they can be used, and together. Raises `InvalidConfigurationError`."""
        if (fault := self._fault(material)) is not None:
            raise InvalidConfigurationError(fault)
        try:
            server_context(material)
        except (OSError, ValueError) as error:  # `SSLError` is an OSError
            if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                raise InvalidConfigurationError(
                    f"ssl_keyfile is {self.keyfile}, which is not the key of the certificate in ssl_certfile "
                    f"{self.certfile}. Give the two that were made together."
                ) from None
            raise InvalidConfigurationError(
                f"TLS cannot be had with ssl_certfile {self.certfile}, ssl_keyfile {self.keyfile}"
                f"{'' if self.ca_certs is None else f' and ssl_ca_certs {self.ca_certs}'}: {error}"
            ) from None

    def _fault(self, material: TlsMaterial) -> str | None:
        certificates, key = material.certificates, material.key
        if _CERTIFICATE not in certificates:
            if _KEY in certificates and _CERTIFICATE in key:
                return (
                    f"ssl_certfile is {self.certfile}, which holds a key, and ssl_keyfile is {self.keyfile}, "
                    "which holds a certificate. Exchange the two."
                )
            return (
                f"ssl_certfile is {self.certfile}, which holds no certificate in PEM "
                f"({_CERTIFICATE.decode()}). {_form_hint(certificates)}"
            )
        if _KEY not in key:
            return (
                f"ssl_keyfile is {self.keyfile}, which holds no key in PEM (-----BEGIN PRIVATE KEY-----). "
                f"{_form_hint(key)}"
            )
        if any(mark in key for mark in _LOCKED):
            return (
                f"ssl_keyfile is {self.keyfile}, whose key has a passphrase, and none can be given. Take it "
                "off: openssl pkey -in KEY -out NEW_KEY."
            )
        if material.authorities is not None and _CERTIFICATE not in material.authorities:
            return (
                f"ssl_ca_certs is {self.ca_certs}, which holds no certificate in PEM "
                f"({_CERTIFICATE.decode()}). {_form_hint(material.authorities)}"
            )
        return None


def _form_hint(content: bytes) -> str:
    if not content:
        return "The file is empty."
    if content[:1] == b"\x30":  # a SEQUENCE, which all of DER begins with
        return "It looks like DER: openssl x509 and openssl pkey write PEM (-inform DER)."
    return "Give a file in PEM."


def _content(name: str, path: Path) -> bytes:
    if path.is_dir():
        told = "the folder that the server runs in, or empty" if path == Path() else "a folder"
        raise InvalidConfigurationError(f"{name} is '{path}', which is {told}; give a file in PEM.")
    if not path.exists():
        raise InvalidConfigurationError(f"{name} is {path}; there is no such file.")
    if not path.is_file():
        raise InvalidConfigurationError(
            f"{name} is {path}, which is no regular file, which could be read again."
        )
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfigurationError(
            f"{name} is {path}, which cannot be read ({error.strerror})."
        ) from None
    if len(content) > MAX_BYTES:
        raise InvalidConfigurationError(
            f"{name} is {path}, which is larger than {MAX_BYTES} bytes."
        )
    return content
