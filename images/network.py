"""Network of a build. How a build reaches the package registries: the host's way, which no image may
remember.

Proxies, package indexes and the certificate authorities of a company network belong to the machine
that builds. They enter the RUN steps as build secrets (files that are mounted, never stored), so
neither a layer nor the image's history shows an index's address or its password.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PASSED = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INSECURE_HOST"),
    *("UV_HTTP_TIMEOUT", "UV_INDEX_STRATEGY"),
)
_CA_INSIDE = "/run/secrets/ca-bundle"
_CA_NAMES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class BuildSecrets:
    """Files on the host that a build mounts: a shell fragment, and the host's CA bundle if any."""

    build_env: Path
    ca_bundle: Path | None

    def by_id(self) -> dict[str, Path]:
        """Returns the files under the ids that the Containerfiles name."""
        files = {"build-env": self.build_env}
        if self.ca_bundle is not None:
            files["ca-bundle"] = self.ca_bundle
        return files


def render_build_env(environ: Mapping[str, str], *, extra: Mapping[str, str]) -> str:
    """Returns the shell fragment that exports what a RUN step may know of the host's network.

    A CA bundle is only named where the host names one itself (`SSL_CERT_FILE`); pip gets the same.
    """
    exported = {name: environ[name] for name in _PASSED if environ.get(name)}
    if ca_bundle(environ) is not None:
        exported |= dict.fromkeys(_CA_NAMES, _CA_INSIDE)
    exported |= extra
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(exported.items())
    )


def ca_bundle(environ: Mapping[str, str]) -> Path | None:
    """Returns the CA bundle that the host's environment names, if the file is there."""
    named = environ.get("SSL_CERT_FILE")
    return Path(named) if named and Path(named).is_file() else None


def write_secrets(folder: Path, *, extra: Mapping[str, str]) -> BuildSecrets:
    """Writes the shell fragment for this host into `folder`, readable by its owner alone."""
    target = folder / "build-env"
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(render_build_env(os.environ, extra=extra))
    return BuildSecrets(build_env=target, ca_bundle=ca_bundle(os.environ))
