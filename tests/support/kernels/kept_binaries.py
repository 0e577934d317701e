"""Triton's cache of compiled kernels, kept between runs of the tests.

Binaries are under a hash of their source, of the compiler and of all options: a run compiles what changed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triton import knobs

_KEPT_SECONDS = 30 * 24 * 3600


def kept_folder() -> Path:
    """Exists; what no run has made anew for a month is gone."""
    cache = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")
    folder = cache / "triton"
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
    return folder


@contextmanager
def kept_binaries() -> Iterator[Path]:
    """Triton compiles into the folder, which is given, until it ends."""
    folder = kept_folder()
    with knobs.cache.scope(), knobs.compilation.scope():
        knobs.cache.dir = str(folder)
        knobs.compilation.store_binary_only = True
        yield folder
