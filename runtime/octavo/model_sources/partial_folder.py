"""Partial folder: where a model is downloaded before it gets its name, and what becomes of those whose
process was killed.

Each is as large as its model; on a volume for one model the next try would find no room beside it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX, _LOCK = ".partial-", ".lock"


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, which goes again unless it was renamed. Those of processes that are gone are
    removed first; of one that still downloads, on another machine too, the lock says so."""
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=parent)
    lock = Path(name)
    folder = lock.with_suffix("")
    try:
        # Where a file system has no locks, nobody else gets one either.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    for lock in parent.glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(OSError):  # it is held, or somebody else has just removed it
            descriptor = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
