"""Connections are kept, but not for ever: replicas that came later must be found."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import httpx
import pytest
import uvloop

from octavo.server.http import connection, listener
from octavo.server.http.asgi import IS_FIRST, Receive, Scope, Send, respond
from octavo.server.http.listener import Listener
from octavo.server.http.sockets import bind


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    # The port of the client's end tells connections apart.
    await respond(send, 200, str(scope["client"][1]).encode())


async def ask(requests: list[float]) -> list[httpx.Response]:
    """One client; `requests[i]` are the seconds to wait before request i."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = Listener(app, bound)
    await server.start()
    answers = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        for pause in requests:
            await asyncio.sleep(pause)
            answers.append(await client.get("/"))
    await server.stop()
    return answers


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def connect(server: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that the server has taken, too."""
    streams = await asyncio.open_connection("127.0.0.1", server.port)
    await until(lambda: len(server._server.server_state.connections) == 1)
    return streams


@pytest.mark.parametrize("has_version_6", [False, True])
def test_every_address_is_of_both_versions_of_ip_where_there_are_both(
    monkeypatch: pytest.MonkeyPatch, *, has_version_6: bool
) -> None:
    """A pod of a cluster of version 6 alone is probed by that; a machine may have none."""
    if has_version_6 and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: has_version_6)

    async def scenario() -> None:
        server = Listener(app, bind("::", 0, "--port"))
        await server.start()
        async with httpx.AsyncClient() as client:
            for host in ("127.0.0.1", "[::1]") if has_version_6 else ("127.0.0.1",):
                answer = await client.get(f"http://{host}:{server.port}/")
                assert answer.status_code == 200
        await server.stop()

    asyncio.run(scenario())


def test_a_young_connection_is_kept() -> None:
    answers = asyncio.run(ask([0, 0.3, 0]))
    assert len({answer.text for answer in answers}) == 1
    assert not any("connection" in answer.headers for answer in answers)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_connection_is_awaited_until_it_asks_or_is_opened_ahead(
    monkeypatch: pytest.MonkeyPatch, *, is_old: bool
) -> None:
    """A client may stall between the two, and some open connections long before they need them."""
    if is_old:
        monkeypatch.setattr(listener, "_AWAITED_SECONDS", -1)

    async def scenario() -> None:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        reader, writer = await connect(server)
        assert server.num_awaited == (0 if is_old else 1)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readline()
        assert server.num_awaited == 0
        writer.close()
        await server.stop()

    asyncio.run(scenario())


def test_a_request_knows_whether_it_is_its_connection_s_first() -> None:
    first: list[bool] = []

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        first.append(scope["state"][IS_FIRST])
        await respond(send, 200, b"")

    async def run() -> None:
        server = Listener(looks, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        for _ in range(2):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
                await client.get("/")
                await client.get("/")
        await server.stop()

    asyncio.run(run())
    assert first == [True, False, True, False]


def test_an_old_connection_ends_with_its_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, is_old_at_once = 0.1, True
    while is_old_at_once:  # on a machine so busy, with more time
        seconds *= 2
        monkeypatch.setattr(connection, "_CONNECTION_SECONDS", seconds)
        first, old, new = asyncio.run(ask([0, 1.5 * seconds, 0]))
        is_old_at_once = "connection" in first.headers
    assert old.text == first.text
    assert old.status_code == 200
    assert old.headers["connection"] == "close"
    assert new.text != old.text


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET",
    ],
    ids=["nothing", "headers", "body", "second request"],
)
def test_a_request_that_does_not_go_on_is_given_up(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    async def reads_body(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await respond(send, 200, b"ok")

    async def seconds_until_closed() -> tuple[float, float]:
        """When the last byte was sent, and when the connection ended, since it was opened."""
        server = Listener(reads_body, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        started = asyncio.get_running_loop().time()
        written = 0.0
        if sent:
            await asyncio.sleep(0.15)
            writer.write(sent)
            written = asyncio.get_running_loop().time() - started
        await reader.read()
        took = asyncio.get_running_loop().time() - started
        writer.close()
        await server.stop()
        return written, took

    # Where the machine was so busy that the limit was over before anything was sent, with a longer one.
    limit, written, took = 0.15, 1.0, 0.0
    while written > limit / 2:
        limit *= 2
        monkeypatch.setattr(connection, "_REQUEST_SECONDS", limit)
        written, took = asyncio.run(seconds_until_closed())
    assert took >= written + 0.9 * limit  # counted from the last byte


def test_a_long_answer_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, was_asked = 0.1, False

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal was_asked
        await receive()
        was_asked = True
        await asyncio.sleep(2 * seconds)
        await respond(send, 200, b"done")

    async def run() -> bytes:
        server = Listener(slow, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\nconnection: close\r\n\r\na body"
        )
        answer = await reader.read()
        writer.close()
        await server.stop()
        return answer

    answer = b""
    while not was_asked:  # given up before that, on a machine so busy: with more time
        seconds *= 2
        monkeypatch.setattr(connection, "_REQUEST_SECONDS", seconds)
        answer = asyncio.run(run())
    assert answer.endswith(b"done")


@pytest.mark.parametrize("is_stopping", [False, True], ids=["idle ones are closed", "stop"])
def test_a_connection_that_was_just_opened_gets_its_answer(
    monkeypatch: pytest.MonkeyPatch, is_stopping: bool
) -> None:
    monkeypatch.setattr(listener, "_FIRST_REQUEST_SECONDS", 60.0)

    async def run() -> bytes:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        reader, writer = await connect(server)
        if is_stopping:
            stopping = asyncio.create_task(server.stop())
            await until(lambda: not any(each.is_serving() for each in server._server.servers))
            assert not server._server.should_exit  # it waits for what was just opened
        else:
            server.close_idle_connections()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        await (stopping if is_stopping else server.stop())
        writer.close()
        return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200")


def test_a_connection_that_asks_nothing_does_not_hold_up_the_end() -> None:
    async def run() -> None:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        _, writer = await connect(server)
        async with asyncio.timeout(connection._REQUEST_SECONDS / 2):
            await server.stop()
        writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nx: ", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"],
    ids=["headers", "body"],
)
def test_a_byte_now_and_then_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """However long they go on: the time is that of all headers, and of each 64 KiB of a body."""
    monkeypatch.setattr(connection, "_REQUEST_SECONDS", 0.5)

    async def reads_body(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def run() -> None:
        server = Listener(reads_body, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        reader, writer = await connect(server)
        writer.write(sent)
        end = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not end.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"a")
                    await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        await server.stop()

    asyncio.run(run())


def test_whoever_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app is told, as when a client hangs up, and the connection's memory is free."""
    monkeypatch.setattr(connection, "_READ_SECONDS", 0.3)
    told = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left = asyncio.ensure_future(receive())
        while not left.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        told.set()

    async def run() -> None:
        server = Listener(endless, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(60):
                await told.wait()
            await until(lambda: not server._server.server_state.connections)
        await server.stop()

    asyncio.run(run())


def test_more_connections_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "most_connections", lambda: 1)

    async def run() -> tuple[bytes, bytes]:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        first, kept = await connect(server)
        second, refused = await asyncio.open_connection("127.0.0.1", server.port)
        told = await second.read()
        kept.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await first.read()
        for writer in (kept, refused):
            writer.close()
        await server.stop()
        return told, answer

    told, answer = asyncio.run(run())
    assert told.startswith(b"HTTP/1.1 503")
    assert b"too_many_connections" in told
    assert answer.startswith(b"HTTP/1.1 200")


def test_too_many_headers_are_refused() -> None:
    async def run() -> tuple[bytes, bytes]:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        answers = []
        for count in (250, 300):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            headers = b"".join(b"x-%d: 1\r\n" % number for number in range(count))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + headers + b"\r\n")
            answers.append(await reader.read())
            writer.close()
        await server.stop()
        return answers[0], answers[1]

    taken, refused = asyncio.run(run())
    assert taken.startswith(b"HTTP/1.1 200")
    assert refused.startswith(b"HTTP/1.1 400")
    assert b"invalid_http" in refused


def test_all_that_connect_at_once_are_taken_at_once() -> None:
    """libuv takes one in each turn of the loop: the last of many would wait as many turns."""
    count = 32

    async def run() -> int:
        server = Listener(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        with contextlib.ExitStack() as held:
            for _ in range(count):
                held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            turns = 0
            while len(server._server.server_state.connections) < count:
                await asyncio.sleep(0)
                turns += 1
        await server.stop()
        return turns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) < count // 2
