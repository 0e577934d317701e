"""Watch. Runs kopf: login, list, watch, reconnect. It lives in a thread with an event loop of its own.

kopf treats every task of its loop as its own when it stops, and puts signal handlers into the main
thread. In its own thread it has nothing of ours to cancel, and what it enqueues crosses over in one
call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from octavo_operator import handlers
from octavo_operator.manifest import ObjectKey

_STOP_TIMEOUT_SECONDS = 2.0
_LOGIN_BACKOFF_SECONDS = 3.0
# kopf's own guess asks the password database, which knows nobody under a container's UID. The type
# is a NewType of str that kopf does not export; without peering nothing compares it.
_IDENTITY: Any = "octavo-operator"


async def watch(
    enqueue: Callable[[ObjectKey], None],
    load: Callable[[], Awaitable[Configuration]],
    namespaces: Sequence[str],
) -> None:
    """Calls `enqueue` in this event loop for every object that changed, until cancelled.

    Args:
        enqueue: Gets the key of an LLMDeployment.
        load: Gives the cluster and a fresh token; called again when the token has expired.
        namespaces: Those to watch; all when empty.

    Raises RuntimeError when kopf ends by itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = threading.Event()

    def enqueue_from_thread(key: ObjectKey) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(enqueue, key)

    def run() -> None:
        error: Exception | None = None
        try:
            asyncio.run(_operator(enqueue_from_thread, load, namespaces, stop))
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, ended, error)

    thread = threading.Thread(target=run, name="kopf", daemon=True)
    thread.start()
    try:
        await ended
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, _STOP_TIMEOUT_SECONDS)


def _finish(ended: asyncio.Future[None], error: Exception | None) -> None:
    if not ended.done():
        ended.set_exception(error or RuntimeError("kopf ended by itself"))


async def _operator(
    enqueue: Callable[[ObjectKey], None],
    load: Callable[[], Awaitable[Configuration]],
    namespaces: Sequence[str],
    stop: threading.Event,
) -> None:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    handlers.register(registry, enqueue)
    handlers.configure(settings)

    @kopf.on.login(registry=registry, backoff=_LOGIN_BACKOFF_SECONDS)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info(await load())

    await kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        identity=_IDENTITY,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )


async def connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same login for kopf."""
    header = await configuration.get_api_key_with_prefix("BearerToken") or ""
    scheme, _, token = header.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
