"""Clients with which TLS does not come about: what they are told, and what the log is."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvloop

from octavo.server.http import acceptor, handshake_faults, handshakes, unencrypted
from octavo.server.http.asgi import Receive, Scope, Send, respond
from octavo.server.http.handshake_faults import FaultLog
from octavo.server.http.listener import Listener
from octavo.server.http.tls import Encryption, TlsMaterial
from octavo.server.http.tls_files import TlsFiles
from tests.runtime.server.test_tls import certificate
from tests.support.runtime.server_process import ServerProcess, eventually

Port = int
Lines = list[MutableMapping[str, Any]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, 200, scope["scheme"].encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a server's certificate, a known client's and a stranger's."""
    made = tmp_path_factory.mktemp("tls")
    for name in ("server", "known", "stranger"):
        certificate(made, name)
    return made


def material(folder: Path, **more: Any) -> TlsMaterial:
    return TlsFiles(folder / "server.crt", folder / "server.key", **more).read()


def served(tls: TlsMaterial, use: Callable[[Port], Awaitable[None]]) -> Lines:
    """What the log says while `use` asks a port with this TLS."""

    async def run() -> None:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)), Encryption(tls))
        await server.start()
        try:
            await use(server.port)
        finally:
            await server.stop()

    with structlog.testing.capture_logs() as lines:
        uvloop.run(run())
    return [line for line in lines if line["event"] == "TLS handshake failed"]


def context(folder: Path, shown: str = "", trusted: str = "server") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(folder / f"{trusted}.crt"))
    if shown:
        made.load_cert_chain(folder / f"{shown}.crt", folder / f"{shown}.key")
    return made


async def status(port: Port, client: ssl.SSLContext) -> int | None:
    """None: it is not let in."""
    try:
        async with httpx.AsyncClient(verify=client, timeout=60) as http:
            return (await http.get(f"https://127.0.0.1:{port}/")).status_code
    except httpx.TransportError:
        return None


@pytest.mark.parametrize(
    ("reqs", "let_in"),
    [
        (ssl.CERT_NONE, [200, 200, 200]),
        (ssl.CERT_OPTIONAL, [200, 200, None]),
        (ssl.CERT_REQUIRED, [200, None, None]),
    ],
)
def test_a_client_without_a_certificate_and_one_with_a_strangers(
    folder: Path, reqs: ssl.VerifyMode, let_in: list[int | None]
) -> None:
    async def use(port: Port) -> None:
        clients = [context(folder, shown) for shown in ("known", "", "stranger")]
        assert [await status(port, client) for client in clients] == let_in

    tls = material(folder, ca_certs=folder / "known.crt", client_certificates=reqs)
    reasons = [line["reason"] for line in served(tls, use)]
    missing = "the client showed no certificate, which --ssl-cert-reqs asks for"
    strange = "the client's certificate is not trusted: self-signed certificate"
    assert reasons == [
        reason
        for reason, answer in zip((missing, strange), let_in[1:], strict=True)
        if answer is None
    ]


def test_the_ciphers_are_those_that_are_named(folder: Path) -> None:
    async def use(port: Port) -> None:
        client = context(folder)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        for ciphers, answer in (("ECDHE+CHACHA20", 200), ("ECDHE+AESGCM", None)):
            client.set_ciphers(ciphers)
            assert await status(port, client) == answer
        client = context(folder)  # TLS 1.3 has its own
        assert await status(port, client) == 200

    (line,) = served(material(folder, ciphers="ECDHE+CHACHA20"), use)
    assert "no cipher in common" in line["reason"]


def test_a_handshake_that_fails_is_told_with_its_reason_and_the_client(folder: Path) -> None:
    ends: list[str] = []

    async def hang_up(port: Port) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        ends.append(":".join(map(str, writer.get_extra_info("sockname"))))
        writer.write(b"\x16\x03\x01\x02")
        await writer.drain()
        writer.close()

    async def s_client(*flags: str, port: Port) -> None:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert await process.wait() != 0

    async def old(port: Port) -> None:
        await s_client("-tls1_1", "-cipher", "ALL:@SECLEVEL=0", port=port)

    async def distrusts(port: Port) -> None:
        known = str(folder / "known.crt")
        await s_client("-verify_return_error", "-CAfile", known, port=port)

    async def use(port: Port) -> None:
        for attempt in (hang_up, old, distrusts):
            await attempt(port)
            await asyncio.sleep(0.05)  # they are told in this order
        for silent in range(3):  # a balancer that looks whether anybody listens
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.01 * silent)
        assert await status(port, context(folder)) == 200

    lines = served(material(folder), use)
    assert [line["reason"] for line in lines] == [
        handshake_faults.HUNG_UP,
        "the client speaks no version of TLS that is spoken here (1.2 and 1.3)",
        "the client does not trust the server's certificate",
    ]
    assert [line["client"] for line in lines[:1]] == ends
    assert all("exc_info" not in line and line["log_level"] == "warning" for line in lines)


def test_who_stops_in_a_handshake_is_told_and_let_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "_HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr(handshakes, "_FIRST_BYTE_SECONDS", 0.2)

    async def use(port: Port) -> None:
        for begin in (b"", b"\x16\x03\x01\x02"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begin)
            async with asyncio.timeout(30):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()

    assert [line["reason"] for line in served(material(folder), use)] == [
        "the client took too long"
    ]


def test_a_scanner_does_not_fill_the_log() -> None:
    now = 0.0
    log = FaultLog(lambda: now)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            log.tell("a", "1.2.3.4:5")
        log.tell("b", "1.2.3.4:5")
        now = handshake_faults.QUIET_SECONDS
        log.tell("a", "1.2.3.4:6")
        now *= 2
        log.tell("a", "1.2.3.4:7")
        told = [
            (line["reason"], line["client"], line.get("times_since_last_line")) for line in lines
        ]
        assert told == [
            ("a", "1.2.3.4:5", None),
            ("b", "1.2.3.4:5", None),
            ("a", "1.2.3.4:6", 1000),
            ("a", "1.2.3.4:7", 1),
        ]
        for number in range(1000):
            log.tell(f"kind {number}", "1.2.3.4:8")
    assert len(lines) == len(told) + handshake_faults.MAX_FAULTS - 2 + 1


REQUESTS = {
    "GET": b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "Messages": b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    "upgrade": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "long": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n" + b"a" * 4_000_000,
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "bytes": bytes(range(128, 256)),
}


async def answer_to(port: Port, request: bytes, manner: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if manner == "slow":
        for place in range(min(len(request), 40)):
            writer.write(request[place : place + 1])
            await asyncio.sleep(0.002)
        request = request[40:]
    writer.write(request)
    await writer.drain()
    if manner == "half-closed":
        writer.write_eof()
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("manner", ["whole", "slow", "half-closed"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_plain_http_is_answered_by_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, manner: str
) -> None:
    monkeypatch.setattr(unencrypted, "_LINGER_SECONDS", 0.3)

    async def use(port: Port) -> None:
        answer = await answer_to(port, REQUESTS[kind], manner)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head
        told = json.loads(body)
        assert "https://" in told["error"]["message"]
        if kind == "Messages":  # in Anthropic's shape
            assert told["type"] == "error"
        else:
            assert told["error"]["code"] == "invalid_http"
        assert await status(port, context(folder)) == 200

    (line,) = served(material(folder), use)
    assert line["reason"] == "the client speaks no TLS; it should ask by https://"


def test_who_waits_with_plain_http_or_a_handshake_is_in_nobodys_way(folder: Path) -> None:
    async def use(port: Port) -> None:
        waiting = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(len(b"G\x16") * 20)
        ]
        for number, (_, writer) in enumerate(waiting):
            writer.write((b"", b"G", b"\x16")[number % 3])
        begun = time.monotonic()
        assert await status(port, context(folder)) == 200
        assert time.monotonic() - begun < 30
        for _, writer in waiting:
            writer.close()

    served(material(folder), use)


def test_handshakes_that_wait_are_no_more_than_there_may_be_connections(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "most_connections", lambda: 3)
    monkeypatch.setattr(acceptor, "_TOLD", 1)

    async def use(port: Port) -> None:
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert await status(port, context(folder)) is None
        waiting[0][1].close()
        async with asyncio.timeout(30):
            while await status(port, context(folder)) != 200:
                await asyncio.sleep(0.01)
        for _, writer in waiting:
            writer.close()

    served(material(folder), use)


@contextmanager
def serving(*flags: str) -> Iterator[ServerProcess]:
    with ServerProcess(*flags) as process:
        yield process.wait_ready()


@pytest.mark.parametrize("count", [1, 2])
def test_a_server_has_its_flags_in_all_its_processes(folder: Path, count: int) -> None:
    flags = [
        *(
            "--ssl-certfile",
            str(folder / "server.crt"),
            "--ssl-keyfile",
            str(folder / "server.key"),
        ),
        *("--ssl-ca-certs", str(folder / "known.crt"), "--ssl-cert-reqs", "1"),
        *("--ssl-ciphers", "ECDHE+CHACHA20", "--api-server-count", str(count)),
    ]
    with serving(*flags) as process:
        client = context(folder)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = f"http{process.url.removeprefix('https')}/v1/models"
        for _ in range(8 * count):  # each has some of them
            with httpx.Client(verify=client, timeout=60) as http:
                answer = http.get(f"{process.url}/v1/models")
                assert answer.status_code == 200
                stream: Any = answer.extensions["network_stream"]
                cipher = stream.get_extra_info("ssl_object").cipher()[0]
                assert cipher.startswith("ECDHE-RSA-CHACHA20")
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{process.url}/v1/models", verify=context(folder, "stranger"))
            refused = httpx.get(plain, timeout=60)
            assert refused.status_code == 400
            assert "https://" in refused.json()["error"]["message"]
        told = partial(_reasons, process)
        eventually(lambda: len(told()) >= 2)
        assert set(told()) == {
            "the client's certificate is not trusted: self-signed certificate",
            "the client speaks no TLS; it should ask by https://",
        }
        assert len(told()) <= 2 * count
        assert not any("Traceback" in line for line in process.stderr)


def _reasons(process: ServerProcess) -> list[str]:
    return [line["reason"] for line in list(process.log) if line["event"] == "TLS handshake failed"]
