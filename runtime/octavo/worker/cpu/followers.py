"""Followers: the other ranks of a shared model, as the first rank's executor asks more of them than steps."""

from __future__ import annotations

from typing import Protocol

from octavo.sleep_level import SleepLevel


class Followers(Protocol):
    """Other ranks, which sleep and wake with the first, and have its adapters."""

    def sleep(self, level: SleepLevel) -> None: ...

    def wake_up(self) -> None:
        """Begins it, so that all wake at once."""
        ...

    def wait_until_awake(self) -> None: ...

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        """Raises `InvalidConfigurationError` where one of them cannot, and none of them has it then."""
        ...

    def remove_adapter(self, adapter_id: int) -> None: ...


class Nobody:
    """No other ranks."""

    def sleep(self, level: SleepLevel) -> None:
        pass

    def wake_up(self) -> None:
        pass

    def wait_until_awake(self) -> None:
        pass

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        pass

    def remove_adapter(self, adapter_id: int) -> None:
        pass
