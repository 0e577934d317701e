"""Webhook: a validating one that answers every review with one status, as a cluster's own may."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any, Self


class RefusingWebhook:
    """An HTTPS server on the loopback, with a certificate of its own in `folder`. What `status` says is what
    the API server answers with; 0 lets everything pass."""

    def __init__(self, folder: Path) -> None:
        self.status = 0
        self.reviews = 0
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.reviews += 1
                answer = json.dumps(webhook._answer(review)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        key, certificate = folder / "webhook.key", folder / "webhook.crt"
        names = "subjectAltName=IP:127.0.0.1"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
            + ["-subj", "/CN=webhook", "-addext", names]
            + ["-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._bundle = base64.b64encode(certificate.read_bytes()).decode()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def configuration(self, name: str, namespace: str, rule: dict[str, Any]) -> dict[str, Any]:
        """The ValidatingWebhookConfiguration that asks it about these in this namespace."""
        address = f"https://127.0.0.1:{self._server.server_address[1]}/"
        return {
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": "refusing.example.com",
                    "clientConfig": {"url": address, "caBundle": self._bundle},
                    "rules": [{"operations": ["*"], **rule}],
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": namespace}
                    },
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }

    def _answer(self, review: dict[str, Any]) -> dict[str, Any]:
        response: dict[str, Any] = {"uid": review["request"]["uid"], "allowed": not self.status}
        if self.status:
            response["status"] = {"code": self.status, "message": "not today"}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
