"""Commands that ask a server over TLS: what is said of a certificate that is not trusted, and of http://."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from octavo.cli.served_model import NoModelError, first_model


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "one"}]}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(HTTPServer):
    def handle_error(self, *_: object) -> None:
        """Those are the clients' here."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A port, and its certificate."""
    cert, key = tmp_path / "crt", tmp_path / "key"
    subject = ["-subj", "/CN=one", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run(
        [*command, "-out", str(cert), "-keyout", str(key)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with _Server(("127.0.0.1", 0), _Models) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, cert
        server.shutdown()


def told(url: str) -> str:
    with pytest.raises(NoModelError) as error:
        first_model(url, None, url_argument="URL")
    return str(error.value)


def test_a_certificate_that_is_not_trusted_is_told_with_how_to_trust_it(
    served: tuple[int, Path],
) -> None:
    port, cert = served
    url = f"https://127.0.0.1:{port}/v1"
    message = told(url)
    assert message.startswith(f"{url} shows a certificate that is not trusted (")
    assert "SSL_CERT_FILE=" in message
    code = "from octavo.cli.served_model import first_model as f; import sys; "
    code += "print(f(sys.argv[1], None, url_argument='URL'))"
    trusting = subprocess.run(
        [sys.executable, "-c", code, url],
        env=os.environ | {"SSL_CERT_FILE": str(cert)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert trusting.stdout == "one\n", trusting.stderr


def test_http_where_tls_is_spoken_is_told_as_that(served: tuple[int, Path]) -> None:
    message = told(f"http://127.0.0.1:{served[0]}/v1")
    assert "begins with https://" in message
