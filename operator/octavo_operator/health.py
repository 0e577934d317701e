"""Health port of the operator: `/livez`, `/readyz` and `/metrics`.

A check says what is wrong, or None. What is wrong is answered with 503 and told in words, to whoever asks
and, when it changes, in the log.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from octavo_operator import metrics

log = structlog.get_logger()

Check = Callable[[], Awaitable[str | None]]


@asynccontextmanager
async def serving(port: int, live: Sequence[Check], ready: Sequence[Check]) -> AsyncIterator[int]:
    """Listens on all addresses, as the kubelet and Prometheus come from outside the pod. Yields the
    port, which differs from `port` when that is 0.

    `/healthz` is `/livez` by the name that Kubernetes used before.
    """

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes(
        [
            web.get("/livez", _answering("live", live)),
            web.get("/healthz", _answering("live", live)),
            web.get("/readyz", _answering("ready", [*live, *ready])),
            web.get("/metrics", exposition),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, _every_address(port)).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _every_address(port: int) -> socket.socket:
    """Of both versions of IP where there are both: a pod's probes come by the one that its cluster has."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port))  # noqa: S104


def _answering(
    what: str, checks: Sequence[Check]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    was_well: bool | None = None

    async def answer(_: web.Request) -> web.Response:
        nonlocal was_well
        why = "; ".join([problem for check in checks if (problem := await check()) is not None])
        is_well = not why
        if is_well is not was_well:
            was_well = is_well
            log.info(what if is_well else f"not {what}", why=why)
        return web.Response(text="ok") if is_well else web.Response(status=503, text=why)

    return answer
