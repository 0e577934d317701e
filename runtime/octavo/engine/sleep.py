"""Sleep of an engine: the device's memory is given back, and taken again on waking."""

from __future__ import annotations

from octavo.engine.kv.block_manager import BlockManager
from octavo.errors import InvalidConfigurationError
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import Executor


class Sleep:
    """Gives the KV cache's memory back, and the weights' as the level says. The prefix cache is empty
    afterwards. Of two levels the deeper one holds.

    Args:
        is_on: `config.enable_sleep_mode`.

    Attributes:
        level: None: it is awake.
    """

    def __init__(self, executor: Executor, blocks: BlockManager, *, is_on: bool) -> None:
        self._executor = executor
        self._blocks = blocks
        self._is_on = is_on
        self.level: SleepLevel | None = None

    def begin(self, level: SleepLevel) -> None:
        """Raises `InvalidConfigurationError` where it is off."""
        if not self._is_on:
            raise InvalidConfigurationError(
                "enable_sleep_mode is False: sleep is off. Set it (--enable-sleep-mode)."
            )
        self._executor.sleep(level)
        self._blocks.forget_cached()
        self.level = max(level, self.level or level)

    def end(self) -> None:
        if self.level is not None:
            self._executor.wake_up()
            self.level = None
