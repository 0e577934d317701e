"""TLS of the HTTP port: what is encrypted, who is let in, and files that do not do."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from octavo.errors import InvalidConfigurationError
from octavo.server.http.tls import read_tls
from tests.support.runtime.server_process import ServerProcess


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """For 127.0.0.1, its own authority, and its key."""
    made, key = folder / f"{name}.crt", folder / f"{name}.key"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
        + ["-out", str(made), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    return made, key


def test_a_client_is_let_in_by_the_certificate_of_an_authority(tmp_path: Path) -> None:
    server, server_key = certificate(tmp_path, "server")
    known, known_key = certificate(tmp_path, "known")
    stranger, stranger_key = certificate(tmp_path, "stranger")
    files = ("--ssl-certfile", str(server), "--ssl-keyfile", str(server_key))
    with ServerProcess(*files, "--ssl-ca-certs", str(known)) as process:
        process.wait_ready()
        assert process.url.startswith("https://")

        def ask(cert: Path | None = None, key: Path | None = None) -> int:
            context = ssl.create_default_context(cafile=str(server))
            if cert is not None:
                context.load_cert_chain(cert, key)
            return httpx.get(f"{process.url}/v1/models", verify=context, timeout=60).status_code

        assert ask(known, known_key) == 200
        for cert, key in ((None, None), (stranger, stranger_key)):
            with pytest.raises(httpx.TransportError):
                ask(cert, key)
        with pytest.raises(httpx.TransportError):  # no plain HTTP beside it
            httpx.get(f"http{process.url.removeprefix('https')}/v1/models", timeout=60)
        assert process.probe("livez").status_code == 200  # the ops port has none


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    _, other_key = certificate(tmp_path, "other")
    nothing = tmp_path / "none"
    garbage = tmp_path / "garbage"
    garbage.write_text("no certificate")
    for given, message in (
        ((cert, None, None), "ssl_certfile is given and ssl_keyfile is not"),
        ((None, key, None), "ssl_keyfile is given and ssl_certfile is not"),
        ((None, None, cert), "ssl_ca_certs is given and ssl_certfile is not"),
        ((cert, nothing, None), "ssl_keyfile is .*; there is no such file"),
        ((cert, key, nothing), "ssl_ca_certs is .*; there is no such file"),
        ((cert, other_key, None), "TLS cannot be had with ssl_certfile"),
        ((garbage, key, None), "TLS cannot be had with ssl_certfile"),
        ((cert, key, garbage), "and ssl_ca_certs"),
    ):
        with pytest.raises(InvalidConfigurationError, match=message):
            read_tls(*given)
    assert read_tls(None, None, None) is None
    assert read_tls(cert, key, None) is not None


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:x", "-in", str(key), "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    with pytest.raises(InvalidConfigurationError, match="TLS cannot be had"):
        read_tls(cert, locked, None)
