"""Where the builder reads and writes: one place, so that no other module spells a path."""

import os
from pathlib import Path

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """Returns the cache folder that all of Octavo's development tools share."""
    return Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")


def base_folder() -> Path:
    """Returns the folder of the base root file systems, one tar per recipe."""
    return cache_root() / "base"


def images_folder() -> Path:
    """Returns the folder of the image store, of the build locks and of temporary blobs."""
    return cache_root() / "images"
