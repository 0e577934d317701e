"""Adapters by the names that requests choose them by, beside the model's own.

A name is taken while its files are read, and answers when they are. An adapter whose name is taken back takes
no new requests; those that run with it end as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from octavo.engine.client import EngineClient
from octavo.errors import InvalidConfigurationError
from octavo.loading.content import content_of_adapter, content_of_adapters
from octavo.server.openai.api_errors import model_not_found, quoted

log = structlog.get_logger("octavo.server")

_MAX_NAME_CHARS = 256


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """One that requests may have.

    Args:
        adapter_id: The engine's, never used again.
        parent: Name of the base model that whoever loaded it gave; empty: the first served name.
        created: Unix time in seconds.
        content: A digest of its files; empty where it cannot be told.
    """

    name: str
    adapter_id: int
    path: str
    parent: str
    created: int
    content: str = ""


class AdapterTable:
    """The adapters that requests may have at present.

    Args:
        taken: Names of the model itself.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = taken
        self._by_name: dict[str, ServedAdapter] = {}

    @property
    def all(self) -> list[ServedAdapter]:
        return list(self._by_name.values())

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    @property
    def content(self) -> str:
        """A digest of all of them, alike in servers that hold the same; empty where there are none."""
        return content_of_adapters({each.name: each.content for each in self.all})

    def replace(self, adapters: Iterable[ServedAdapter]) -> None:
        """By what another process says."""
        self._by_name = {adapter.name: adapter for adapter in adapters}

    def is_models_own(self, name: str) -> bool:
        return name in self._taken

    def find(self, name: str) -> ServedAdapter | None:
        return self._by_name.get(name)

    def id_of(self, name: str) -> int:
        """For the engine; 0 for the model's own names. Raises `ApiError` (404): a request whose adapter went
        while it was read must not get the model's answer."""
        found = self._by_name.get(name)
        if found is not None:
            return found.adapter_id
        if name not in self._taken:
            raise model_not_found(name, [*self._taken, *self._by_name])
        return 0


class ServedAdapters(AdapterTable):
    """The adapters of one server, where they are loaded and unloaded.

    Args:
        publish: Tells the processes that answer of a new table; returns when they have it.
    """

    def __init__(
        self,
        client: EngineClient,
        taken: Collection[str],
        publish: Callable[[list[ServedAdapter]], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(taken)
        self._client = client
        self._publish = publish
        self._loading: set[str] = set()
        self._ids = itertools.count(1)

    async def load(
        self, name: str, path: str, *, parent: str = "", is_replacing: bool = False
    ) -> None:
        """Returns when requests may have it.

        Args:
            is_replacing: One of this name may be there, and goes when the new one is.

        Raises:
            InvalidConfigurationError: The name is empty, overlong or taken, or the engine may hold no more.
            ModelInvalidError, ModelUnsupportedError: Its files are not as they must be.
            EngineDeadError: The engine process ended.
        """
        self.check_name(name, is_replacing=is_replacing)
        adapter_id = next(self._ids)
        self._loading.add(name)
        try:
            await self._client.load_adapter(adapter_id, path)
            content = await asyncio.to_thread(content_of_adapter, Path(path)) or ""
        except BaseException:
            # Also when nobody waits for it any more: what has no name must not stay.
            self._client.unload_adapter(adapter_id)
            raise
        finally:
            self._loading.remove(name)
        adapter = ServedAdapter(name, adapter_id, path, parent, int(time.time()), content)
        before = self._by_name.get(name)
        self._by_name[name] = adapter
        await self._tell_all()
        if before is not None:
            self._client.unload_adapter(before.adapter_id)
            log.info("adapter unloaded", adapter=name)
        log.info("adapter loaded", adapter=name, path=path)

    async def unload(self, name: str) -> bool:
        """Takes the name back; False when there is no such adapter. Raises `EngineDeadError`."""
        adapter = self._by_name.pop(name, None)
        if adapter is None:
            return False
        await self._tell_all()
        self._client.unload_adapter(adapter.adapter_id)
        log.info("adapter unloaded", adapter=name)
        return True

    async def _tell_all(self) -> None:
        if self._publish is not None:
            await self._publish(self.all)

    def check_name(self, name: str, *, is_replacing: bool) -> None:
        """Raises `InvalidConfigurationError` for a name that no adapter may have."""
        if not 0 < len(name) <= _MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
            raise InvalidConfigurationError(
                f"The adapter's name is {quoted(name)}; give 1 to {_MAX_NAME_CHARS} printable characters, "
                "and no space at an end."
            )
        if name in self._taken:
            raise InvalidConfigurationError(
                f"The name {quoted(name)} is the model's own; give the adapter another."
            )
        if name in self._loading or (name in self._by_name and not is_replacing):
            raise InvalidConfigurationError(
                f"The adapter {quoted(name)} is loaded already; unload it first, or give another name."
            )
