from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from octavo_operator import health
from octavo_operator.leader import Candidate, LeaderElection, LeaseTimes
from octavo_operator.manifest import POD, SERVICE, ObjectKey
from octavo_operator.vitals import LONGEST_PASS_SECONDS, Vitals
from octavo_operator.watches import Watches
from octavo_operator.workqueue import WorkQueue
from tests.support.operator.fake_kube import FakeKube

KEY = ObjectKey("team", "llama")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(bounded())


class Cluster:
    """Answers lists and watches; what it refuses or breaks is chosen."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.refused:
            return web.Response(status=403)
        if request.query.get("watch") != "true":
            return web.json_response({"items": []})
        stream = web.StreamResponse()
        await stream.prepare(request)
        return stream

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/{path:.*}", self.answer)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def ask(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as response:
        return response.status, await response.text()


def test_what_is_listed_and_streamed_is_followed_until_it_is_refused_or_out_of_reach() -> None:
    async def scenario() -> None:
        watches = Watches([POD, SERVICE], ["a", "b"])
        async with (
            Cluster() as cluster,
            aiohttp.ClientSession(trace_configs=[watches.trace()]) as session,
        ):
            paths = [kind.path(name) for kind in (POD, SERVICE) for name in ("a", "b")]
            for path in paths:
                await ask(session, cluster.url + path)
            assert len(watches.missing()) == 4
            for path in paths[1:]:
                await ask(session, f"{cluster.url}{path}?watch=true")
            assert watches.missing() == ["pods of a"]
            # As behind a proxy.
            await ask(session, f"{cluster.url}/k8s/clusters/c{paths[0]}?watch=true")
            assert watches.missing() == []
            cluster.refused = {paths[3]}
            await ask(session, f"{cluster.url}{paths[3]}")
            assert watches.missing() == ["services of b"]
            with pytest.raises(aiohttp.ClientConnectionError):
                await ask(session, f"http://127.0.0.1:9{paths[2]}?watch=true")
            assert watches.missing() == ["services of a", "services of b"]
            watches.begin()
            assert len(watches.missing()) == 4

    run(scenario())


def test_a_loop_in_another_thread_that_hangs_does_not_answer() -> None:
    async def scenario() -> None:
        watches = Watches([POD], [])
        assert await watches.answers(1)
        hang, hangs, going_on, stop = (threading.Event() for _ in range(4))

        async def theirs() -> None:
            watches.begin()
            while not stop.is_set():
                await asyncio.sleep(0.01)
                if hang.is_set():
                    hangs.set()
                    going_on.wait()

        thread = threading.Thread(target=lambda: asyncio.run(theirs()))
        thread.start()
        try:
            while watches._loop is None:
                await asyncio.sleep(0.01)
            assert await watches.answers(50)
            hang.set()
            while not hangs.is_set():
                await asyncio.sleep(0.01)
            assert not await watches.answers(0.2)
        finally:
            stop.set()
            going_on.set()
            thread.join()
        assert await watches.answers(1)

    run(scenario())


def test_a_pass_that_hangs_is_no_life() -> None:
    async def scenario() -> None:
        async def forever(_: ObjectKey) -> None:
            await asyncio.Event().wait()

        queue: WorkQueue[ObjectKey] = WorkQueue(forever, lambda *_: None, 1)
        vitals = Vitals(Watches([], []), queue)
        running = asyncio.create_task(queue.run())
        assert await vitals.work_goes_on() is None
        queue.add(KEY)
        while not queue.longest_seconds > 0:
            await asyncio.sleep(0.01)
        assert await vitals.work_goes_on() is None
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now + LONGEST_PASS_SECONDS + 1  # type: ignore[method-assign]
        told = await vitals.work_goes_on()
        loop.time = time.monotonic  # type: ignore[method-assign]
        assert told is not None
        running.cancel()

    run(scenario())


def test_readiness_is_following_or_standing_by() -> None:
    async def scenario() -> None:
        queue: WorkQueue[ObjectKey] = WorkQueue(lambda _: asyncio.sleep(0), lambda *_: None, 1)
        watches = Watches([POD], [])
        vitals = Vitals(watches, queue)
        assert await vitals.all_is_followed() is not None
        seconds, kube = 0.0, FakeKube()
        times = LeaseTimes.of(15)
        key = ObjectKey("octavo-system", "octavo-operator")
        holder = LeaderElection(kube, key, Candidate("a"), times, lambda: seconds)
        standby = LeaderElection(kube, key, Candidate("b"), times, lambda: seconds)
        vitals.election = standby
        assert await vitals.all_is_followed() is None
        assert await vitals.lease_is_seen() is not None
        await holder.acquire()
        assert not await standby._try()
        assert await vitals.lease_is_seen() is None
        seconds += times.duration + 1
        assert "was not seen for 16 s" in (await vitals.lease_is_seen() or "")
        vitals.is_acting = True
        assert await vitals.all_is_followed() == "not followed: pods of all namespaces"

    run(scenario())


def test_the_port_says_what_is_wrong_with_503() -> None:
    async def scenario() -> None:
        wrong: dict[str, str | None] = {"live": None, "ready": "not followed: pods"}

        async def live() -> str | None:
            return wrong["live"]

        async def ready() -> str | None:
            return wrong["ready"]

        async with (
            health.serving(0, [live], [ready]) as port,
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}"
            assert await ask(session, f"{url}/livez") == (200, "ok")
            assert await ask(session, f"{url}/readyz") == (503, "not followed: pods")
            wrong |= {"live": "hangs", "ready": None}
            assert await ask(session, f"{url}/livez") == (503, "hangs")
            assert await ask(session, f"{url}/healthz") == (503, "hangs")
            assert await ask(session, f"{url}/readyz") == (503, "hangs")
            assert (await ask(session, f"{url}/metrics"))[0] == 200
            if socket.has_dualstack_ipv6():  # the probes of a cluster of version 6 of IP
                assert (await ask(session, f"http://[::1]:{port}/metrics"))[0] == 200

    run(scenario())
