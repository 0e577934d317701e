"""Watch. Runs kopf: login, list, watch, reconnect. It lives in a thread with an event loop of its own.

kopf treats every task of its loop as its own when it stops, and puts signal handlers into the main
thread. In its own thread it has nothing of ours to cancel, and what it enqueues crosses over in one
call. What it does not get over, such as a definition that is taken away, leaves it half alive for ever:
the first of its tasks to end tells, and whoever runs it begins anew.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.client import Configuration

from octavo_operator import handlers
from octavo_operator.manifest import ObjectKey
from octavo_operator.watches import Watches

_STOP_TIMEOUT_SECONDS = 2.0
_CANCELLATIONS = 20
_CANCELLATION_SECONDS = 0.1
_LOGIN_BACKOFF_SECONDS = 3.0
_SAME_LOGIN_SECONDS = 60.0
# kopf's own guess asks the password database, which knows nobody under a container's UID. The type
# is a NewType of str that kopf does not export; without peering nothing compares it.
_IDENTITY: Any = "octavo-operator"


async def watch(
    enqueue: handlers.Enqueue,
    load: Callable[[], Awaitable[Configuration]],
    namespaces: Sequence[str],
    watches: Watches,
) -> None:
    """Calls `enqueue` in this event loop for every object that changed, until cancelled.

    Args:
        enqueue: Gets the key of an LLMDeployment, and the seconds after which it is to be looked at.
        load: Gives the cluster and a fresh token; called again when the token has expired.
        namespaces: Those to watch; all when empty.
        watches: Learns what is followed.

    Raises WatchError when kopf breaks off, kopf.LoginError when nobody lets it in, and RuntimeError when it
    ends by itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = threading.Event()

    def enqueue_from_thread(key: ObjectKey, seconds: float) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(enqueue, key, seconds)

    def tell(error: Exception | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, ended, error)

    def run() -> None:
        error: Exception | None = None
        try:
            asyncio.run(_operator(enqueue_from_thread, load, namespaces, watches, stop, tell))
        except Exception as raised:
            error = raised
        tell(error)

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
    enqueue: handlers.Enqueue,
    load: Callable[[], Awaitable[Configuration]],
    namespaces: Sequence[str],
    watches: Watches,
    stop: threading.Event,
    tell: Callable[[Exception | None], None],
) -> None:
    watches.begin()
    logins = Logins(load, watches, time.monotonic)
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    handlers.register(registry, enqueue)
    handlers.configure(settings)

    @kopf.on.login(registry=registry, backoff=_LOGIN_BACKOFF_SECONDS)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return await logins.session()

    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        identity=_IDENTITY,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for error in (task.exception() for task in done if not task.cancelled()):
        if isinstance(error, Exception):
            tell(error if isinstance(error, kopf.LoginError) else WatchError(error))
            await _abandon()
            return
    await kopf.run_tasks(tasks)


async def _abandon() -> None:
    """Cancels all other tasks until none is left. kopf's own end cancels them once and waits for ever: its
    streams take that for the end of a pause."""
    loop, own = asyncio.get_running_loop(), asyncio.current_task()
    loop.set_exception_handler(lambda *_: None)
    for _ in range(_CANCELLATIONS):
        others = asyncio.all_tasks() - {own}
        if not others:
            return
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=_CANCELLATION_SECONDS)


class WatchError(Exception):
    """kopf broke off what it was following."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")


class Logins:
    """kopf's sessions, one after the other, whose requests `watches` follows."""

    def __init__(
        self,
        load: Callable[[], Awaitable[Configuration]],
        watches: Watches,
        steady_clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._watches = watches
        self._clock = steady_clock
        self._last: kopf.ConnectionInfo | None = None
        self._last_at = 0.0

    async def session(self) -> kopf.AiohttpSession:
        """A session with a fresh login. Raises kopf.PermanentError when the login that was just refused
        is still the freshest: kopf compares logins, but not sessions, and would ask for ever."""
        info, now = await connection_info(await self._load()), self._clock()
        if info == self._last and now - self._last_at < _SAME_LOGIN_SECONDS:
            raise kopf.PermanentError("the API server refuses the login that there is")
        self._last, self._last_at = info, now
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            trace_configs=[self._watches.trace()],
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)


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
