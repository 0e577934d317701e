"""TLS options of `octavo serve`, by vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from octavo.errors import InvalidConfigurationError
from octavo.options import Option, Panel, check_options
from octavo.server.http.tls_files import TlsFiles


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
        }
        told = next((name for name, value in given.items() if value is not None), None)
        missing = next((name for name in list(given)[:2] if given[name] is None), None)
        if told is not None and missing is not None:
            raise InvalidConfigurationError(
                f"{told} is given and {missing} is not; TLS needs a certificate and its key."
            )

    @property
    def files(self) -> TlsFiles | None:
        """None where no TLS is asked for."""
        if self.ssl_certfile is None or self.ssl_keyfile is None:
            return None
        return TlsFiles(self.ssl_certfile, self.ssl_keyfile, self.ssl_ca_certs)
