"""Sleep of a worker: its runner with the KV cache goes, and the model's weights with it or not.

A runner is made anew when it wakes, as at the start, so that nothing in one knows of sleep.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Generic, TypeVar

from octavo.sleep_level import SleepLevel
from octavo.worker.machine import return_freed_memory

M = TypeVar("M")
R = TypeVar("R")


class Wakeable(Generic[M, R]):
    """A model and what runs it.

    Args:
        make: The runner of a model, with an empty KV cache.
        reload: Reads the model anew.
        park: Moves a model's weights to the host's memory; what it returns moves them back. A CPU has them
            there.
    """

    def __init__(
        self,
        model: M,
        make: Callable[[M], R],
        reload: Callable[[], M],
        park: Callable[[M], Callable[[], None]] = lambda _: lambda: None,
    ) -> None:
        self._model: M | None = model
        self._make = make
        self._reload = reload
        self._park = park
        self._unpark: Callable[[], None] | None = None
        self._runner: R | None = make(model)

    @property
    def runner(self) -> R:
        """Raises `RuntimeError` while it sleeps."""
        if self._runner is None:
            raise RuntimeError("The model sleeps: wake_up comes before a step.")
        return self._runner

    def sleep(self, level: SleepLevel) -> None:
        """Deeper than before, or as deep."""
        self._runner = None
        if level is SleepLevel.DROP_WEIGHTS:
            self._model = self._unpark = None
        elif self._model is not None and self._unpark is None:
            self._unpark = self._park(self._model)
        give_memory_back()

    def wake_up(self) -> None:
        """Raises what `reload` and `make` raise; it still sleeps then."""
        if self._runner is not None:
            return
        if self._unpark is not None:
            self._unpark()
            self._unpark = None
        if self._model is None:
            self._model = self._reload()
        self._runner = self._make(self._model)
        if gc.get_freeze_count():
            gc.collect()
            gc.freeze()


def give_memory_back() -> None:
    """What no object holds any more, to the system: objects that hold each other, and freed memory that the C
    library keeps for later."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if was_frozen:
        gc.freeze()
    return_freed_memory()
