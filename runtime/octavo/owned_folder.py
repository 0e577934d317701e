"""Temporary folders that die with their owner, or at the latest with the next start.

A process that is killed leaves its folder behind. Each of ours is locked (flock) by the process that made it,
from the moment that it has its name: a lock that can be had means that the owner is dead, whatever became of
its process id. Whoever makes a folder removes those of the dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_UNLOCKED = "unlocked-"


class OwnedFolder:
    """A new folder, readable by this user alone, called `prefix…`; it lasts until `remove`.

    Raises:
        OSError: There is no place for one.
    """

    def __init__(self, prefix: str) -> None:
        root = Path(tempfile.gettempdir())
        remove_abandoned(root, prefix)
        unlocked = Path(tempfile.mkdtemp(prefix=f"{_UNLOCKED}{prefix}", dir=root))  # mode 0700
        self._lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = unlocked.rename(root / unlocked.name.removeprefix(_UNLOCKED))

    def remove(self) -> None:
        """With all that is in it. Safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_abandoned(root: Path, prefix: str) -> None:
    """Removes this user's folders of that prefix whose owner is dead; what cannot be removed stays."""
    for folder in root.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return
        fcntl.flock(
            descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # BlockingIOError while the owner lives
        if os.fstat(descriptor).st_ino == folder.lstat().st_ino:
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
