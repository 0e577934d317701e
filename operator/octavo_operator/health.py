"""Operator's own HTTP port: `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from octavo_operator import metrics


@asynccontextmanager
async def serving(port: int) -> AsyncIterator[int]:
    """Listens on all addresses, as the kubelet and Prometheus come from outside the pod. Yields the
    port, which differs from `port` when that is 0.

    An answer proves that the event loop turns. More is not needed: a part that fails ends the
    process, and a replica that waits for the lease is healthy.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", exposition)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
