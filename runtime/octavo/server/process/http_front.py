"""HTTP front: what answers at the OpenAI port. One process, the server's own, or several (`api_servers`)."""

from __future__ import annotations

import asyncio
import gc
import importlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from octavo.engine.admission import Admission
from octavo.engine.client import EngineClient
from octavo.errors import EngineDeadError
from octavo.server.http.tls import Encryption
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.certificates import Certificates
from octavo.server.process.daemon_thread import in_daemon_thread
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.options import ServeOptions
from octavo.server.process.sleeping import SleepingEngine

if TYPE_CHECKING:
    from octavo.server.http.listener import Listener
    from octavo.server.http.middleware import Middleware
    from octavo.server.openai.adapters import ServedAdapters
    from octavo.server.openai.generation import Generator
    from octavo.server.process.metrics import ServerMetrics
    from octavo.server.process.texts import Texts


class HttpFront(Protocol):
    """In the order in which a server calls it: `load`, `assemble`, `listen`, `stop`."""

    async def load(self, folder: Path) -> None:
        """What takes time, beside the engine. Raises `OctavoError`."""

    async def assemble(self, client: EngineClient) -> None:
        """The engine is ready."""

    async def listen(self) -> None:
        """Returns when connections are taken. Raises `OctavoError`."""

    @property
    def has_chat(self) -> bool:
        """The model has a chat template, as `load` found."""
        ...

    @property
    def adapters(self) -> ServedAdapters: ...

    @property
    def engine(self) -> SleepingEngine:
        """What is put to sleep, with all that asks it."""
        ...

    @property
    def num_active(self) -> int:
        """Requests that wait for tokens, as far as is known."""
        ...

    @property
    def is_answering(self) -> bool:
        """Somebody takes connections."""
        ...

    async def count_active(self) -> int:
        """`num_active`, exactly."""
        ...

    async def count_in_flight(self) -> int:
        """HTTP requests that are being answered."""
        ...

    async def count_arrivals(self) -> tuple[int, int]:
        """First requests of connections so far, less where a process that counted some is gone; and
        connections of the last seconds whose first request is not there yet."""
        ...

    async def settled(self) -> None:
        """Returns when the server's state of now holds for whoever asks."""

    def close_idle_connections(self) -> None:
        """Kept-alive ones that carry no request."""

    def tell_of_death(self, error: EngineDeadError) -> None:
        """The engine ended: whoever waits for it hears why."""

    async def watch(self) -> None:
        """Returns never. Raises `OctavoError` when it can answer no longer."""

    async def stop(self) -> None:
        """Closes the port; answers under way get a moment to leave. Safe to repeat."""


class OwnFront:
    """The server's only process answers."""

    def __init__(
        self,
        options: ServeOptions,
        bound: socket.socket,
        certificates: Certificates | None,
        lifecycle: Lifecycle,
        keys: ApiKeys,
        metrics: ServerMetrics,
    ) -> None:
        self._options = options
        self._bound = bound
        self._encryption: Encryption | None = None
        if certificates is not None:
            self._encryption = Encryption(certificates.material)
            certificates.on_change = self._encryption.take
        self._lifecycle = lifecycle
        self._keys = keys
        self._metrics = metrics
        self._folder = Path()
        self._texts: Texts | None = None
        self._client: EngineClient | None = None
        self._adapters: ServedAdapters | None = None
        self._generator: Generator | None = None
        self._middleware: Middleware | None = None
        self._listener: Listener | None = None

    async def load(self, folder: Path) -> None:
        self._folder = folder
        texts = await in_daemon_thread(
            lambda: importlib.import_module("octavo.server.process.texts")
        )
        self._texts = await in_daemon_thread(lambda: texts.read_texts(folder, self._options))
        await in_daemon_thread(lambda: importlib.import_module("octavo.server.process.assembly"))

    async def assemble(self, client: EngineClient) -> None:
        from octavo.server.http.key_use import OwnAccounts
        from octavo.server.openai.adapters import ServedAdapters
        from octavo.server.openai.gate import OwnGate
        from octavo.server.process.assembly import assemble
        from octavo.server.process.shared import SharedState

        assert self._texts is not None  # noqa: S101 - `load` came before
        limits = self._options.engine
        admission = Admission(limits.max_queued_requests, limits.max_num_seqs)
        self._client = client
        self._adapters = ServedAdapters(client, self._options.served_names)
        shared = SharedState(
            self._lifecycle,
            self._keys,
            OwnAccounts(),
            OwnGate(client, admission),
            self._adapters,
            self._metrics,
            self._read_view,
            self._read_metrics,
        )
        self._generator, self._middleware = assemble(
            self._options, self._folder, client, self._texts, shared
        )

    async def listen(self) -> None:
        from octavo.server.http.listener import Listener

        assert self._middleware is not None  # noqa: S101 - `assemble` came before
        self._listener = Listener(self._middleware, self._bound, self._encryption)
        await self._listener.start()
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    @property
    def has_chat(self) -> bool:
        return self._texts is not None and self._texts.tokenizer.chat_templates is not None

    @property
    def adapters(self) -> ServedAdapters:
        assert self._adapters is not None  # noqa: S101 - `assemble` came before
        return self._adapters

    @property
    def engine(self) -> EngineClient:
        assert self._client is not None  # noqa: S101 - `assemble` came before
        return self._client

    @property
    def num_active(self) -> int:
        return 0 if self._generator is None else self._generator.num_active

    @property
    def is_answering(self) -> bool:
        return self._listener is not None

    async def count_active(self) -> int:
        return self.num_active

    async def count_in_flight(self) -> int:
        return 0 if self._middleware is None else self._middleware.num_in_flight

    async def count_arrivals(self) -> tuple[int, int]:
        if self._middleware is None or self._listener is None:
            return 0, 0
        return self._middleware.num_arrivals, self._listener.num_awaited

    async def settled(self) -> None:
        """It does."""

    def close_idle_connections(self) -> None:
        if self._listener is not None:
            self._listener.close_idle_connections()

    def tell_of_death(self, error: EngineDeadError) -> None:
        """Its client has."""

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._listener is None:
            self._bound.close()
        else:
            await self._listener.stop()

    async def _read_view(self) -> EngineView:
        client = self.engine
        return EngineView(client.stats, client.num_under_way, client.info.block_size)

    async def _read_metrics(self) -> bytes:
        return self._metrics.public_exposition()
