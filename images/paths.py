"""Paths. Where the builder reads and writes: one place, so that no other module spells a path."""

from pathlib import Path

from host.paths import cache_root

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


def base_folder() -> Path:
    """Returns the folder of the base root file systems, one tar per recipe."""
    return cache_root() / "base"


def images_folder() -> Path:
    """Returns the folder of the image store, of the build locks and of temporary blobs."""
    return cache_root() / "images"
