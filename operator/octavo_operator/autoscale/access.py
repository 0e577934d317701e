"""Access to a Prometheus that does not answer everybody: a bearer token, a certificate authority, a tenant.

They are the installation's, in files that a Secret or ConfigMap fills. The operator reads the files and no
Secret; it reads them anew, because tokens and authorities are rotated.
"""

from __future__ import annotations

import codecs
import ssl
from dataclasses import dataclass
from pathlib import Path

from octavo_operator.autoscale.load import LoadError


@dataclass(frozen=True, slots=True)
class Access:
    """How to ask. Empty fields ask as everybody does.

    Args:
        bearer_token_file: Holds the token; read before each question.
        ca_file: Certificates, in PEM, one of which must have signed the server's. The system's when empty.
        tenant: Whose series are asked for, as Mimir, Cortex and Thanos take it (`X-Scope-OrgID`).
    """

    bearer_token_file: str = ""
    ca_file: str = ""
    tenant: str = ""

    def headers(self) -> dict[str, str]:
        """Raises LoadError where the token cannot be read or cannot be sent; its message does not hold it."""
        headers = {"X-Scope-OrgID": self.tenant} if self.tenant else {}
        if self.bearer_token_file:
            headers["Authorization"] = f"Bearer {_token(Path(self.bearer_token_file))}"
        return headers

    def authorities(self) -> bytes:
        """The certificates as they are now, to tell whether they have changed. Raises LoadError."""
        try:
            return Path(self.ca_file).read_bytes() if self.ca_file else b""
        except OSError as error:
            raise LoadError(
                f"the certificates in {self.ca_file} cannot be read: {error.strerror}"
            ) from None

    def tls(self) -> ssl.SSLContext:
        """Raises LoadError where the certificates cannot be read."""
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise LoadError(
                f"the certificates in {self.ca_file} cannot be read: {error}"
            ) from error


AS_EVERYBODY = Access()


def _token(file: Path) -> str:
    try:
        token = file.read_bytes().removeprefix(codecs.BOM_UTF8).decode("ascii").strip()
    except OSError as error:
        raise LoadError(f"the token in {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable():
        raise LoadError(f"{file} holds no token that a header can carry")
    return token
