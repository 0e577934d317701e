"""Progress of a download or a load, as a person sees it: a bar at a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = structlog.get_logger("octavo.server")

_LINE_SECONDS = 10.0


class BytesShown:
    """Hears of bytes (`Tell`), from any thread.

    Args:
        what: `downloading` or `loading`.
        is_terminal: Whether a bar is drawn on standard error.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        what: str,
        *,
        is_terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._clock = clock
        self._started_at = self._told_at = clock()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def begin_phase(self) -> None:
        """Counts seconds from here, as `/startupz` counts a phase's; else from the construction."""
        self._started_at = self._told_at = self._clock()

    def __call__(self, done: int, total: int) -> None:
        if self._is_terminal:
            self._draw(done, total)
            return
        now = self._clock()
        if now - self._told_at < _LINE_SECONDS and done < total:
            return
        self._told_at = now
        seconds = max(now - self._started_at, 1e-3)
        log.info(
            "start-up progress",
            doing=self._what,
            bytes=done,
            total_bytes=total,
            bytes_per_second=round(done / seconds),
        )

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = _bar(self._what)
        progress, task = self._bar
        progress.update(task, completed=done, total=total)


def _bar(what: str) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    progress.start()
    return progress, progress.add_task(what, total=None)
