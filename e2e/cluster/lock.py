"""One command at a time changes the cluster; a second one says who it waits for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.paths import Layout
from e2e.cluster.progress import say


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Hold the cache's lock for the block; the kernel releases it even when we are killed."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"Waiting for process {file.read().strip() or '?'} to finish ({layout.lock})")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
