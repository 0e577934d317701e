"""The registry is asked what it holds, and a missing one is told with what to do."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from host.errors import ToolError
from images import registry
from images.buildah import is_local_registry


class _Registry(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        known = {"/v2/", "/v2/octavo-runtime/manifests/abc"}
        self.send_response(200 if self.path in known else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a registry that holds octavo-runtime:abc alone."""
    server = HTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    name = f"127.0.0.1:{server.server_port}"
    monkeypatch.setattr(registry, "CLUSTER_REGISTRY", name)
    yield name
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_knows_what_the_registry_holds(address: str) -> None:
    assert registry.resolve("") == address
    assert registry.has_image(address, "octavo-runtime", "abc")
    assert not registry.has_image(address, "octavo-runtime", "abd")
    assert not registry.has_image("ghcr.example", "octavo-runtime", "abc")


def test_no_cluster_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CLUSTER_REGISTRY", "127.0.0.1:1")
    with pytest.raises(ToolError, match="make cluster-up"):
        registry.resolve("")


def test_a_named_registry_is_taken_as_it_is() -> None:
    assert registry.resolve("ghcr.example/team/") == "ghcr.example/team"


@pytest.mark.parametrize(
    ("destination", "local"),
    [
        ("localhost:5001/octavo-runtime:1", True),
        ("127.0.0.1:5001/octavo-runtime:1", True),
        ("172.18.0.1:5001/octavo-runtime:1", True),
        ("[::1]:5001/octavo-runtime:1", True),
        ("ghcr.io/team/octavo-runtime:1", False),
        ("8.8.8.8:5000/octavo-runtime:1", False),
        ("10.example.com/octavo-runtime:1", False),
    ],
)
def test_plain_http_is_for_local_registries_alone(destination: str, local: bool) -> None:
    assert is_local_registry(destination) is local
