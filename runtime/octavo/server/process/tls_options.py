"""TLS options of `octavo serve`, by vLLM's names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from octavo.errors import InvalidConfigurationError
from octavo.options import Option, Panel, check_options
from octavo.server.http.tls_files import TlsFiles

_CERT_REQS = {
    spelling: mode
    for mode in ssl.VerifyMode
    for spelling in (str(mode.value), mode.name.removeprefix("CERT_").lower())
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """Each field's `Option` says what it means. Raises `InvalidConfigurationError`."""

    ssl_certfile: Annotated[
        Path | None,
        Option(
            panel=Panel.API,
            default="none",
            help="Certificate (PEM) of the OpenAI port, which speaks TLS then.",
            details="certificate with its chain (PEM): the OpenAI port [speaks TLS](http-api.md#tls) then, "
            "the ops port never",
        ),
    ] = None
    ssl_keyfile: Annotated[
        Path | None,
        Option(panel=Panel.API, default="none", help="The certificate's key (PEM)."),
    ] = None
    ssl_ca_certs: Annotated[
        Path | None,
        Option(
            panel=Panel.API,
            default="none",
            help="Authorities (PEM) whose certificate each client must show.",
            details="authorities (PEM): a client must show a certificate that one of them signed",
        ),
    ] = None
    ssl_cert_reqs: Annotated[
        str | None,
        Option(
            panel=Panel.API,
            default="`required` with `--ssl-ca-certs`",
            choices=tuple(_CERT_REQS),
            help="Whether clients show a certificate of --ssl-ca-certs.",
            details="whether clients show a certificate that `--ssl-ca-certs` signed: `none` (0) asks for "
            "none, `optional` (1) checks the one that is shown, `required` (2) lets nobody in without",
        ),
    ] = None
    ssl_ciphers: Annotated[
        str | None,
        Option(
            panel=Panel.API,
            default="OpenSSL's",
            help="Ciphers of TLS 1.2, as OpenSSL lists them; those of TLS 1.3 stay.",
            details="ciphers of TLS 1.2, as `openssl ciphers` takes them (`ECDHE+AESGCM`); those of TLS 1.3 "
            "stay",
        ),
    ] = None
    enable_ssl_refresh: Annotated[
        bool,
        Option(
            panel=Panel.API,
            help="Take up renewed files of TLS while it serves.",
            details="look at the files of TLS every second, and take up renewed ones without a restart",
        ),
    ] = True

    def __post_init__(self) -> None:
        check_options(self)
        given = {
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "ssl_ca_certs": self.ssl_ca_certs,
            "ssl_cert_reqs": self.ssl_cert_reqs,
            "ssl_ciphers": self.ssl_ciphers,
        }
        told = next((name for name, value in given.items() if value is not None), None)
        missing = next((name for name in list(given)[:2] if given[name] is None), None)
        if told is not None and missing is not None:
            raise InvalidConfigurationError(
                f"{told} is given and {missing} is not; TLS needs a certificate and its key."
            )
        if self._client_certificates is not ssl.CERT_NONE and self.ssl_ca_certs is None:
            raise InvalidConfigurationError(
                f"ssl_cert_reqs is {self.ssl_cert_reqs} and ssl_ca_certs is not given; clients' certificates "
                "are judged by the authorities in it. Give them, or leave ssl_cert_reqs out."
            )
        if self.ssl_ciphers is not None:
            _check_ciphers(self.ssl_ciphers)

    @property
    def files(self) -> TlsFiles | None:
        """None where no TLS is asked for."""
        if self.ssl_certfile is None or self.ssl_keyfile is None:
            return None
        return TlsFiles(
            self.ssl_certfile,
            self.ssl_keyfile,
            self.ssl_ca_certs,
            self._client_certificates,
            self.ssl_ciphers,
        )

    @property
    def _client_certificates(self) -> ssl.VerifyMode:
        if self.ssl_cert_reqs is not None:
            return _CERT_REQS[self.ssl_cert_reqs]
        return ssl.CERT_NONE if self.ssl_ca_certs is None else ssl.CERT_REQUIRED


def _check_ciphers(ciphers: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):
        raise InvalidConfigurationError(
            f"ssl_ciphers is {ciphers!r}, by which OpenSSL selects no cipher of TLS 1.2. Try it with: "
            "openssl ciphers -tls1_2 -s LIST; those of TLS 1.3 are on without being named."
        ) from None
