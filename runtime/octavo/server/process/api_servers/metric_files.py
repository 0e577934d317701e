"""Metric files: those that an API process counts in, with their space on the disk taken before they are
mapped.

The Prometheus client maps files that have a length and no space. Once the disk is full, the first write to
such a page is a SIGBUS, which ends the process: a metric would cost the requests. What finds no space here
counts in memory instead, where nobody else sees it, and the log says so once.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
from pathlib import Path

import structlog
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = structlog.get_logger("octavo.server")

_INITIAL_BYTES = 2**16
_HEAD_BYTES = 8
_ENTRY_BYTES = 32
"""Of an entry at most, beside its key."""
_NEW = "new-{}.part"


def count_in_allocated_files() -> None:
    """What the Prometheus client of this process makes from now on."""
    values.MmapedDict = AllocatedFile  # type: ignore[attr-defined]


def mapped(path: Path, num_bytes: int) -> mmap.mmap:
    """Zeros in a new file, or in memory."""
    if not _is_made(path, num_bytes):
        return mmap.mmap(-1, num_bytes)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), num_bytes)


class AllocatedFile(MmapedDict):
    """As its base class; in memory from where there is no space."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path: Path | None = Path(filename)
        # One that is there already is of a process that had the same id, and its counters go on.
        if self._path.exists() or _is_made(self._path, _INITIAL_BYTES):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            return
        self._path = None
        self._f = None  # type: ignore[assignment]
        self._m = mmap.mmap(-1, _INITIAL_BYTES)
        self._capacity, self._used = _INITIAL_BYTES, _HEAD_BYTES
        self._positions = {}

    def _init_value(self, key: str) -> None:
        capacity, needed = self._capacity, self._used + len(key.encode()) + _ENTRY_BYTES
        while capacity < needed:
            capacity *= 2
        if capacity > self._capacity and not self._has_space(capacity):
            self._go_on_in_memory(capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _has_space(self, num_bytes: int) -> bool:
        if self._path is None:
            return False
        try:
            _allocate(self._path, num_bytes)
        except OSError as error:
            _tell(self._path.parent, str(error.strerror))
            return False
        return True

    def _go_on_in_memory(self, num_bytes: int) -> None:
        """The file stays as it is, and with it what others see of these counters."""
        larger = mmap.mmap(-1, num_bytes)
        larger[: self._used] = self._m[: self._used]
        if self._f is not None:
            self._f.close()
        self._path = None
        self._f = None  # type: ignore[assignment]
        self._m, self._capacity = larger, num_bytes


def _is_made(path: Path, num_bytes: int) -> bool:
    """Under its name there is only ever a whole one, for whoever adds the files up meanwhile."""
    new = path.with_name(_NEW.format(path.name))
    try:
        new.touch()
        _allocate(new, num_bytes)
        new.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        _tell(path.parent, str(error.strerror))
        return False
    return True


def _allocate(path: Path, num_bytes: int) -> None:
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)


@functools.cache
def _tell(folder: Path, error: str) -> None:
    """Once. The folder lies in `TMPDIR`, which `tempfile` does not find on a disk that is full."""
    log.error("metrics of this process are lost", TMPDIR=str(folder.parent), error=error)
