"""API process: `python -m octavo.server.process.api_servers.process CONTROL HTTP`, spawned by `ApiServers`.

Inherits two sockets: one to the process that leads the server, whose end is this process's too, and the bound
one that all API processes take connections from.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from octavo.engine.front_client import FrontClient
from octavo.errors import EngineDeadError, OctavoError, ServerEndsError, UserError
from octavo.logs import configure_logging
from octavo.parents_end import end_at_parents_end
from octavo.server.http.tls import Encryption
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.api_servers.channel import Channel, open_channel
from octavo.server.process.api_servers.messages import (
    AskMetrics,
    AskView,
    Beat,
    Begin,
    CloseIdle,
    Configure,
    Done,
    EngineDied,
    Failed,
    FallAsleep,
    Listening,
    Loaded,
    Message,
    Metrics,
    Report,
    Stop,
    TakeAdapters,
    TakeKeys,
    TakeTls,
    TurnState,
    View,
    WakeUp,
)
from octavo.server.process.daemon_thread import in_daemon_thread
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.options import VLLM_NAMES, ServeOptions
from octavo.server.process.options_json import decode_options

if TYPE_CHECKING:
    from octavo.server.http.listener import Listener
    from octavo.server.http.middleware import Middleware
    from octavo.server.openai.adapters import AdapterTable
    from octavo.server.openai.generation import Generator
    from octavo.server.process.shared import SharedState

log = structlog.get_logger("octavo.server")

BEAT_SECONDS = 0.5
_EXIT_OURS = 1


class ApiProcess:
    """One of several. All that must be one for the whole server is asked for or told over the channel."""

    def __init__(self, bound: socket.socket) -> None:
        self._bound = bound
        loop = asyncio.get_running_loop()
        self._configured: asyncio.Future[Configure] = loop.create_future()
        self._begun: asyncio.Future[SharedState] = loop.create_future()
        self._must_stop = asyncio.Event()
        self._lifecycle = Lifecycle(time.monotonic)
        self._is_over = False
        self._options: ServeOptions | None = None
        self._metrics_folder = Path()
        self._channel: Channel | None = None
        self._client: FrontClient | None = None
        self._keys: ApiKeys | None = None
        self._encryption: Encryption | None = None
        self._adapters: AdapterTable | None = None
        self._generator: Generator | None = None
        self._middleware: Middleware | None = None
        self._listener: Listener | None = None

    async def run(self, control: socket.socket) -> int:
        self._channel = channel = await open_channel(control, self._handle, self._end)
        try:
            await self._serve(channel)
        except OctavoError as error:
            channel.send(Failed(error.reason, str(error), isinstance(error, UserError)))
            status = _EXIT_OURS
        except Exception as error:
            log.exception("an API process failed")
            message = f"{type(error).__name__}: {error}"
            channel.send(Failed(OctavoError.reason, message, False))
            status = _EXIT_OURS
        else:
            status = 0
        self._is_over = True
        await channel.close()
        return status

    async def _serve(self, channel: Channel) -> None:
        configured = await self._configured
        options = self._options = decode_options(configured.options)
        self._metrics_folder = Path(configured.metrics_folder)
        configure_logging(options.log_level, configured.name)
        folder = Path(configured.folder)
        texts = await in_daemon_thread(
            lambda: importlib.import_module("octavo.server.process.texts")
        )
        read = await in_daemon_thread(
            lambda: texts.read_texts(folder, options, is_logging=configured.is_logging_texts)
        )
        await in_daemon_thread(lambda: importlib.import_module("octavo.server.process.assembly"))
        channel.send(Loaded(read.tokenizer.chat_templates is not None))
        shared = await self._begun
        from octavo.server.http.listener import ACCEPTS_OF_SEVERAL, Listener
        from octavo.server.process.assembly import assemble

        assert self._client is not None  # noqa: S101 - made when it begins
        self._generator, self._middleware = assemble(options, folder, self._client, read, shared)
        self._listener = Listener(
            self._middleware,
            self._bound,
            self._encryption,
            accepts_at_once=ACCEPTS_OF_SEVERAL,
        )
        await self._listener.start()
        gc.collect()
        gc.freeze()
        channel.send(Listening())
        beating = asyncio.create_task(self._beat(channel))
        await self._must_stop.wait()
        beating.cancel()
        await self._listener.stop()
        self._client.close()

    def _begin(self, begin: Begin) -> SharedState:
        """At once: the next message may change some of it."""
        from octavo.server.openai.adapters import AdapterTable
        from octavo.server.openai.gate import EngineGate
        from octavo.server.process.api_servers.accounts import AskedAccounts
        from octavo.server.process.api_servers.metrics import request_metrics
        from octavo.server.process.shared import SharedState

        options, channel = self._options, self._channel
        assert options is not None and channel is not None  # noqa: S101, PT018 - it has loaded
        client = FrontClient(begin.address, begin.name, begin.info, is_asleep=begin.is_asleep)
        keys = ApiKeys.told(
            options.api_keys, has_file=options.api_key_file is not None, in_file=begin.keys
        )
        adapters = AdapterTable(options.served_names)
        adapters.replace(begin.adapters)
        self._encryption = None if begin.tls is None else Encryption(begin.tls)
        self._lifecycle.state = begin.state
        self._client, self._keys, self._adapters = client, keys, adapters
        metrics = request_metrics(
            options.served_names[0],
            self._metrics_folder,
            begin.name.decode(),
            has_vllm_names=options.metrics_names == VLLM_NAMES,
        )

        async def read_view() -> EngineView:
            return (await channel.ask(AskView(), View)).view

        async def read_metrics() -> bytes:
            return (await channel.ask(AskMetrics(), Metrics)).text

        return SharedState(
            self._lifecycle,
            keys,
            AskedAccounts(channel, keys),
            EngineGate(client),
            adapters,
            metrics,
            read_view,
            read_metrics,
        )

    def _handle(self, message: Message) -> Message | Awaitable[Message] | None:
        match message:
            case Configure():
                self._configured.set_result(message)
            case Begin():
                try:
                    self._begun.set_result(self._begin(message))
                except Exception as error:  # told where it is waited for
                    self._begun.set_exception(error)
            case Report():
                return self._told()
            case Stop():
                self._must_stop.set()
            case FallAsleep():
                return self._fall_asleep()
            case TakeAdapters():
                if self._adapters is not None:
                    self._adapters.replace(message.adapters)
                return Done()
            case _:
                self._turn(message)
        return None

    def _turn(self, message: Message) -> None:
        match message:
            case TurnState():
                self._lifecycle.state = message.state
            case TakeKeys() if self._keys is not None:
                self._keys.take(message.keys)
            case TakeTls() if self._encryption is not None:
                self._encryption.take(message.material)
            case WakeUp() if self._client is not None:
                self._client.wake_up()
            case CloseIdle() if self._listener is not None:
                self._listener.close_idle_connections()
            case EngineDied() if self._client is not None:
                self._client.die(
                    ServerEndsError() if message.was_told else EngineDeadError(message.message)
                )

    async def _fall_asleep(self) -> Done:
        if self._client is not None:
            with contextlib.suppress(EngineDeadError):  # whoever leads has noticed
                await self._client.fall_asleep()
        return Done()

    def _told(self) -> Beat:
        active = 0 if self._generator is None else self._generator.num_active
        if self._middleware is None or self._listener is None:
            return Beat(active, 0, 0, 0)
        arrivals, awaited = self._middleware.num_arrivals, self._listener.num_awaited
        return Beat(active, self._middleware.num_in_flight, arrivals, awaited)

    async def _beat(self, channel: Channel) -> None:
        while True:
            channel.send(self._told())
            await asyncio.sleep(BEAT_SECONDS)

    def _end(self) -> None:
        if not self._is_over:  # nobody leads this process any more
            os._exit(_EXIT_OURS)


async def _run(control: socket.socket, bound: socket.socket) -> int:
    return await ApiProcess(bound).run(control)


def main(control: int, http: int) -> int:
    """SIGINT and SIGTERM are ignored: they reach the whole process group, and the leading process decides
    when running requests have finished."""
    import uvloop

    end_at_parents_end()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(socket.socket(fileno=control), socket.socket(fileno=http)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
