"""Cache folder that all of Octavo's development tools share, outside the repository."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$OCTAVO_CACHE`, by default `~/.cache/octavo`."""
    return Path(os.environ.get("OCTAVO_CACHE") or "~/.cache/octavo").expanduser().absolute()
