"""What `helm test` runs, against a real API server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from octavo_operator import smoke
from octavo_operator.manifest import Kind
from tests.support.operator.control_plane import ControlPlane


class Health:
    """A health port that answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        health = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(health.status if self.path == "/readyz" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def health() -> Iterator[Health]:
    health = Health()
    yield health
    health.server.shutdown()
    health.server.server_close()


def run(plane: ControlPlane, url: str, *arguments: str) -> int:
    return smoke.main([url, "--kubeconfig", str(plane.operator_kubeconfig), *arguments])


def test_an_installation_that_works_passes(
    control_plane: ControlPlane, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(control_plane, health.url) == 0
    assert "LLMDeployments in all namespaces" in capsys.readouterr().out
    assert run(control_plane, health.url, "--namespace", "default") == 0


def test_an_operator_that_does_not_answer_well_fails_with_its_address(
    control_plane: ControlPlane, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    health.status = 503
    assert run(control_plane, health.url) == 1
    assert f"{health.url}/readyz answered 503" in capsys.readouterr().err
    assert run(control_plane, "http://127.0.0.1:9") == 1
    assert "does not answer" in capsys.readouterr().err


def test_a_definition_that_is_not_served_fails_with_what_to_do(
    control_plane: ControlPlane,
    health: Health,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unserved = Kind("octavo.dev/v9", "LLMDeployment", "llmdeployments")
    monkeypatch.setattr(smoke, "LLM_DEPLOYMENT", unserved)
    assert run(control_plane, health.url) == 1
    assert "cannot list LLMDeployments" in capsys.readouterr().err
