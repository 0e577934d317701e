"""Requests that are no good HTTP: bodies too large or compressed, wrong methods and paths, long headers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from octavo.server.http.parser import RequestParser
from tests.support.runtime.refusals import error_of
from tests.support.runtime.server_process import ServerProcess


def test_a_body_of_50_mb_is_413_by_its_declared_size(http: httpx.Client) -> None:
    body = b'{"model": "' + b"a" * 50_000_000 + b'"}'
    response = http.post("/v1/chat/completions", content=body)
    assert response.status_code == 413
    error = error_of(response)
    assert error["code"] == "request_too_large"
    assert "4194304 bytes" in error["message"]


def test_a_body_of_50_mb_is_413_when_its_size_is_not_declared(http: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(50):
            yield b"a" * 1_000_000

    response = http.post("/v1/chat/completions", content=parts())
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/v1/images/generations", 404, "unknown_url"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("GET", "/v1/models/../../etc/passwd", 404, "unknown_url"),
    ],
)
def test_wrong_method_or_path(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    if status == 405:
        taken = {each.strip() for each in response.headers["allow"].split(",")}
        assert taken == ({"GET", "HEAD"} if path == "/v1/models" else {"POST"})


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/metrics", "on the ops port (--ops-port)"),
        ("/sleep", "on the ops port (--ops-port)"),
        ("/chat/completions", "Use /v1/chat/completions"),
        ("/embeddings", "Use /v1/embeddings"),
        ("/v1/v1/messages", "Use /v1/messages: a client's base URL does without /v1."),
        ("/v1/responses/resp_1", "POST /v1/responses makes one"),
    ],
)
def test_what_others_serve_elsewhere_is_shown(http: httpx.Client, path: str, hint: str) -> None:
    response = http.get(path)
    assert response.status_code == 404
    error = error_of(response)
    assert error["code"] == "unknown_url"
    assert hint in error["message"]


def test_health_answers_to_balancers_that_ask_for_the_head_alone(http: httpx.Client) -> None:
    assert http.head("/health").status_code == 200


def test_bytes_that_are_no_http_get_an_error_object(server: ServerProcess) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("piece", [1 << 20, 10_000])
def test_the_limit_of_headers_does_not_depend_on_how_they_arrive(
    server: ServerProcess, piece: int
) -> None:
    """64 KiB of path and headers, those with ": " and line end, are taken and no byte more."""
    host, port = server.url.removeprefix("http://").split(":")
    fixed = f"host: {host}:{port}\r\nconnection: close\r\n"
    for more, status in ((0, 200), (1, 400)):
        padding = 65536 + more - len("/health") - len(fixed) - len("x: \r\n")
        text = f"GET /health HTTP/1.1\r\n{fixed}x: {'a' * padding}\r\n\r\n".encode()
        with socket.create_connection((host, int(port)), timeout=60) as raw:
            for begin in range(0, len(text), piece):
                raw.sendall(text[begin : begin + piece])
            answer = b"".join(iter(partial(raw.recv, 4096), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d" % status)
        if status == 400:
            assert "longer than 65536 bytes" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_an_older_client_gets_no_chunks(server: ServerProcess, method: str) -> None:
    """ApacheBench, and proxies by default (nginx), speak HTTP/1.0."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "demo", "prompt": "a", "max_tokens": 3, "stream": True})
    for path, is_stream in (("/v1/completions", True), ("/v1/models", False)):
        sent = body if is_stream and method == "POST" else ""
        verb = method if is_stream or method == "HEAD" else "GET"
        head = (
            f"{verb} {path} HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: {len(sent)}\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=60) as raw:
            raw.sendall(f"{head}\r\n{sent}".encode())
            answer = b"".join(iter(partial(raw.recv, 4096), b""))
        told, _, text = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in told
        assert b"connection: close" in told
        if method == "HEAD":
            assert text == b""
        elif is_stream:
            assert text.startswith(b"data: {")
            assert text.endswith(b"data: [DONE]\n\n")
        else:
            assert json.loads(text)["object"] == "list"


def test_a_wish_for_another_protocol_is_passed_over_in_silence(server: ServerProcess) -> None:
    """Java's HttpClient has it in each request."""
    headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AA"}
    body = {"model": "demo", "prompt": "a"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        for _ in range(2):
            told = client.post("/tokenize", json=body)
            assert told.json() == httpx.post(f"{server.url}/tokenize", json=body).json()
            assert client.get("/health").status_code == 200
    assert not any("upgrade" in line.lower() for line in server.stderr)


_HIDDEN = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
_LAST = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def _with_wish(path: bytes, protocol: bytes, *, is_chunked: bool) -> bytes:
    """A request whose body is another one."""
    framing = b"content-length: %d" % len(_HIDDEN)
    body = _HIDDEN
    if is_chunked:
        framing = b"transfer-encoding: chunked"
        trailers = b"connection: upgrade\r\nupgrade: h2c\r\n"
        body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(_HIDDEN), _HIDDEN, trailers)
    wish = b"connection: upgrade\r\nUpgrade: %s" % protocol
    return b"POST %s HTTP/1.1\r\nhost: localhost\r\n%s\r\n%s\r\n\r\n%s" % (
        path,
        wish,
        framing,
        body,
    )


def _statuses(url: str, *parts: bytes) -> list[bytes]:
    """Of the answers to bytes that are sent in these parts, until the server closes."""
    return _answers(url, *parts)[0]


def _answers(url: str, *parts: bytes) -> tuple[list[bytes], bytes]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            raw.sendall(part)
        answer = b"".join(iter(partial(raw.recv, 4096), b""))
    return re.findall(rb"HTTP/1\.1 (\d+)", answer), answer


_STREAM = json.dumps({"model": "demo", "prompt": "a", "max_tokens": 5, "stream": True}).encode()
_ASKED = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
_STREAMED = b"%scontent-length: %d\r\n\r\n%s" % (_ASKED, len(_STREAM), _STREAM)
_WRONG = [
    b"no HTTP at all\r\n\r\n",
    _ASKED + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
]


@pytest.mark.parametrize(
    "listed", ["gzip", "GZIP, identity", "identity, br", "identity,\r\ncontent-encoding: gzip"]
)
def test_a_compressed_body_is_415(server: ServerProcess, listed: str) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: {listed}"
    text = f"{head}\r\ncontent-length: {len(_STREAM)}\r\n\r\n".encode() + _STREAM
    statuses, answer = _answers(server.url, text + _LAST)
    assert statuses == [b"415", b"200"]
    assert b"unsupported_content_encoding" in answer
    assert b"accept-encoding: identity" in answer
    plain = text.replace(listed.encode(), b"Identity,")
    assert _statuses(server.url, plain + _LAST) == [b"200", b"200"]


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        ("chunked", 200),
        ("Chunked", 200),
        ("gzip, chunked", 501),
        ("gzip,\r\ntransfer-encoding: chunked", 501),
        ("identity, chunked", 501),
    ],
)
def test_a_transfer_coding_that_is_not_undone_is_501(
    server: ServerProcess, codings: str, status: int
) -> None:
    """Where its end is known: what follows is another request."""
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(_STREAM), _STREAM)
    text = _ASKED + f"transfer-encoding: {codings}\r\n\r\n".encode() + chunk
    statuses, answer = _answers(server.url, text + _LAST)
    assert statuses == [b"%d" % status, b"200"]
    assert (b"unsupported_transfer_encoding" in answer) is (status == 501)


@pytest.mark.parametrize(
    "codings",
    ["gzip", "chunked, gzip", "chunked, chunked", "identity", "gzip\r\ncontent-length: 9"],
)
def test_a_body_whose_end_nobody_can_tell_ends_the_connection(
    server: ServerProcess, codings: str
) -> None:
    text = _ASKED + f"transfer-encoding: {codings}\r\n\r\n".encode()
    statuses, answer = _answers(server.url, text + _STREAM + _LAST)
    assert statuses == [b"400"]
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ["TLS", "http://", "--ssl-certfile"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["HTTP/2", "use HTTP/1.1"]),
        (b"hello\r\n\r\n", ["no HTTP/1.1 (", "METHOD PATH HTTP/1.1"]),
        (b"GET /health HTTP/x\r\n\r\n", ["no HTTP/1.1 (", "METHOD PATH HTTP/1.1"]),
        (b"GET /health HTTP/1.1\r\nhost localhost\r\n\r\n", ["header", "NAME: VALUE"]),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n", ["256 headers", "Send fewer"]),
        (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", ["no proxy", "proxy settings"]),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", ["0 Host headers", "once"]),
        (b"GET /v1/models HTTP/1.1\r\nhost: a/b\r\n\r\n", ["'a/b'", "a name or an address"]),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_good_http_is_told_what_to_do(
    server: ServerProcess, text: bytes, words: list[str]
) -> None:
    statuses, answer = _answers(server.url, text + _LAST)
    assert statuses[0] == b"400"
    body = answer.partition(b"\r\n\r\n")[2]
    error = json.JSONDecoder().raw_decode(body.decode())[0]["error"]
    assert error["code"] == "invalid_http"
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_wrong_request_is_refused_behind_the_answers_to_those_before(
    server: ServerProcess, wrong: bytes
) -> None:
    """Of those that one client sends without waiting. What follows is not read."""
    for parts in ([_STREAMED + _HIDDEN + wrong + _HIDDEN], [_STREAMED, _HIDDEN + wrong]):
        statuses, text = _answers(server.url, *parts)
        assert statuses == [b"200", b"200", b"400"]
        assert text.index(b"data: [DONE]") < text.index(b"invalid_http")
    assert _statuses(server.url, wrong + _HIDDEN) == [b"400"]


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_body_after_a_wish_is_no_request(
    server: ServerProcess, protocol: bytes, *, is_chunked: bool
) -> None:
    """Wherever the bytes are cut, and among others on one connection."""
    text = _with_wish(b"/tokenize", protocol, is_chunked=is_chunked)
    for cut in range(len(text)):
        assert _statuses(server.url, text[:cut], text[cut:] + _LAST) == [b"400", b"200"]
    assert _statuses(server.url, text + text + _LAST) == [b"400", b"400", b"200"]
    operations = _with_wish(b"/readyz", protocol, is_chunked=is_chunked)
    last = _LAST.replace(b"/health", b"/livez")
    assert _statuses(server.ops_url, operations, last) == [b"405", b"200"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_wish_changes_no_request(*, is_chunked: bool) -> None:
    """Every cut in two, and byte by byte, with nothing in between that might join them."""
    text = _with_wish(b"/a", b"h2c", is_chunked=is_chunked)
    plain = text.replace(b"Upgrade: h2c\r\n", b"")
    told = [event for each in (plain, _HIDDEN, plain) for event in _events(each)]
    whole = text + _HIDDEN + text
    assert told[0] == (b"POST", b"/a", _HIDDEN)
    for cut in range(len(whole)):
        assert _events(whole[:cut], whole[cut:]) == told
    assert _events(*(bytes([byte]) for byte in whole)) == told


class _Listening:
    """Stands for a `Connection`: keeps what its parser tells."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, bytes, bytes]] = []
        self.parser = RequestParser(self)  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.method = self.parser.get_method()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.parser.is_cut_short:
            self.told.append((self.method, self.url, self.body))


def _events(*parts: bytes) -> list[tuple[bytes, bytes, bytes]]:
    listening = _Listening()
    for part in parts:
        listening.parser.feed_data(part)
    return listening.told


def test_a_tunnel_is_refused_and_closed(server: ServerProcess) -> None:
    text = b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for cut in range(0, len(text), 8):
        assert _statuses(server.url, text[:cut], text[cut:] + _HIDDEN) == [b"400"]


def test_endless_headers_are_refused(server: ServerProcess) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nx: ")
        answer = b""
        try:
            for _ in range(100):
                raw.sendall(b"a" * 65536)
            answer = raw.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            return
    assert answer.startswith(b"HTTP/1.1 400")
