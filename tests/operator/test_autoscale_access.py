"""The client against a Prometheus that wants a token, a tenant and TLS of an authority of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from octavo_operator.autoscale.access import Access
from octavo_operator.autoscale.load import LoadError, Snapshot
from octavo_operator.autoscale.prometheus import Prometheus

EMPTY = {"status": "success", "data": {"resultType": "vector", "result": []}}


class Guarded:
    """A Prometheus that remembers the headers of what it was asked."""

    def __init__(self, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.token, self.tls = token, tls
        self.seen: list[tuple[str | None, str | None]] = []

    async def answer(self, request: web.Request) -> web.Response:
        headers = request.headers
        self.seen.append((headers.get("Authorization"), headers.get("X-Scope-OrgID")))
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        return web.json_response(EMPTY)

    async def serving(
        self, access: Access, scenario: Callable[[Prometheus], Awaitable[None]]
    ) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/query", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        scheme = "https" if self.tls else "http"
        url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        client = Prometheus(url, timeout_seconds=60, max_age_seconds=60, access=access)
        try:
            await scenario(client)
        finally:
            await client.close()
            await runner.cleanup()

    def run(self, access: Access, scenario: Callable[[Prometheus], Awaitable[None]]) -> None:
        asyncio.run(self.serving(access, scenario))


async def asked(client: Prometheus) -> Snapshot:
    return await client.snapshot(1_800_000_000.0, 0.0)


def test_a_token_is_read_for_each_question_and_the_tenant_goes_along(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server = Guarded("first")

    async def rotate(client: Prometheus) -> None:
        await asked(client)
        server.token = "second"
        with pytest.raises(LoadError, match=r"answered 401; prometheus\.bearerToken"):
            await asked(client)
        token.write_text("second")
        await asked(client)

    server.run(Access(bearer_token_file=str(token), tenant="a|b"), rotate)
    assert server.seen[-1] == ("Bearer second", "a|b")


def test_without_them_nothing_is_sent() -> None:
    server = Guarded()

    async def ask(client: Prometheus) -> None:
        await asked(client)

    server.run(Access(), ask)
    assert set(server.seen) == {(None, None)}


@pytest.mark.parametrize("content", [b"secret\r\n", b"\xef\xbb\xbfsecret\n"])
def test_what_editors_put_around_a_token_is_no_part_of_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    assert Access(bearer_token_file=str(file)).headers() == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("content", [b"", b"se\ncret", "sécret".encode(), b"se\x00cret"])
def test_a_token_that_no_header_carries_is_refused_and_not_told(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(LoadError, match="holds no token that a header can carry") as refused:
        Access(bearer_token_file=str(file)).headers()
    assert "cret" not in str(refused.value)


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="none cannot be read"):
        Access(bearer_token_file=str(tmp_path / "none")).headers()


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
        + ["-out", str(certificate), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_a_certificate_is_taken_of_the_authority_that_is_named_and_of_no_other(
    tmp_path: Path,
) -> None:
    certificate, key = authority(tmp_path, "server")
    other, _ = authority(tmp_path, "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server, trusted = Guarded(tls=tls), tmp_path / "ca.crt"
    trusted.write_bytes(other.read_bytes())

    async def rotate(client: Prometheus) -> None:
        with pytest.raises(LoadError, match="certificate verify failed"):
            await asked(client)
        trusted.write_bytes(certificate.read_bytes())
        await asked(client)
        trusted.write_bytes(other.read_bytes())  # while the connection is open
        with pytest.raises(LoadError, match="certificate verify failed"):
            await asked(client)
        trusted.unlink()
        with pytest.raises(LoadError, match=r"ca\.crt cannot be read: No such file"):
            await asked(client)

    server.run(Access(ca_file=str(trusted)), rotate)
    assert len(server.seen) == 2, "nothing was asked before the certificate was known"

    async def refuse(client: Prometheus) -> None:
        with pytest.raises(LoadError, match="certificate verify failed"):
            await asked(client)

    server.run(Access(), refuse)


def test_an_authority_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    for content in (None, b"", b"no certificate"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(LoadError, match=r"ca\.crt cannot be read"):
            Access(ca_file=str(file)).tls()
