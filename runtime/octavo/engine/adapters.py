"""Adapters of an engine: which are loaded, who has them, and when one that was unloaded may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError, InvalidParameterError
from octavo.worker.batch import BASE_MODEL, Executor, HoldsAdapters


class EngineAdapters:
    """Adapters by their ids. One that is unloaded stays until no sequence has it, and takes no new ones.

    Args:
        executor: Holds their weights, where `config.enable_lora` is set.
    """

    def __init__(self, config: EngineConfig, executor: Executor) -> None:
        self._holder = (
            executor if config.enable_lora and isinstance(executor, HoldsAdapters) else None
        )
        self._most = config.max_cpu_loras
        self._loaded: set[int] = set()
        self._leaving: set[int] = set()
        self._sequences: Counter[int] = Counter()

    @property
    def is_full(self) -> bool:
        """One more is refused."""
        return self._most is not None and len(self._loaded | self._leaving) >= self._most

    def load(self, adapter_id: int, folder: str) -> None:
        """Reads the adapter's files.

        Raises:
            InvalidConfigurationError: The engine takes no adapters, holds as many as it may, or the adapter
                has a rank above the limit.
            ModelInvalidError, ModelUnsupportedError: The files are damaged, another base model's, or ask for
                what is not implemented.
        """
        if self._holder is None:
            raise InvalidConfigurationError("The engine takes no adapters. Set enable_lora.")
        held = self._loaded | self._leaving
        if adapter_id == BASE_MODEL or adapter_id in held:
            raise InvalidConfigurationError(f"adapter_id {adapter_id} is taken; use a new one.")
        if self._most is not None and len(held) >= self._most:
            waiting = f", {len(self._leaving)} of them until its last request has ended"
            raise InvalidConfigurationError(
                f"{len(held)} adapters are held in memory{waiting if self._leaving else ''}; at most "
                f"{self._most} may be (--max-cpu-loras). Unload one, or raise the limit."
            )
        self._holder.add_adapter(adapter_id, folder)
        self._loaded.add(adapter_id)

    def unload(self, adapter_id: int) -> None:
        """Unknown ids are ignored; to be followed by `drop_unused`."""
        if adapter_id in self._loaded:
            self._loaded.remove(adapter_id)
            self._leaving.add(adapter_id)

    def drop_unused(self) -> None:
        """Frees what was unloaded and no sequence has any more. Never while a step is in flight."""
        if not self._leaving or self._holder is None:
            return
        for adapter_id in [one for one in self._leaving if not self._sequences[one]]:
            self._leaving.remove(adapter_id)
            self._holder.remove_adapter(adapter_id)

    def check(self, adapter_id: int) -> None:
        """Raises `InvalidParameterError` where a request may not have it."""
        if adapter_id != BASE_MODEL and adapter_id not in self._loaded:
            raise InvalidParameterError(
                "model", "The adapter of this name was unloaded, or is not loaded yet."
            )

    def hold(self, adapter_id: int) -> None:
        """A sequence has it from now on."""
        if adapter_id != BASE_MODEL:
            self._sequences[adapter_id] += 1

    def let_go(self, adapter_id: int) -> None:
        """The sequence has ended."""
        if adapter_id == BASE_MODEL:
            return
        self._sequences[adapter_id] -= 1
        if not self._sequences[adapter_id]:
            del self._sequences[adapter_id]

    def waiting(self, running: Mapping[int, int]) -> tuple[int, ...]:
        """The ids of those that a sequence waits with.

        Args:
            running: How many running sequences have each, by its id.
        """
        return tuple(one for one, held in self._sequences.items() if held > running.get(one, 0))
