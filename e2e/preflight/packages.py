"""Python environment: the packages that are still to be installed, and the disk that they take."""

from __future__ import annotations

import enum
import importlib.util
import shutil
from pathlib import Path

from e2e.preflight.machine import GB

TOOLS_BYTES = GB // 2
"""The Python environment of `make demo`."""
ALL_PACKAGES_BYTES = 13 * GB // 2
"""That of `make test`: torch and its libraries."""


class Purpose(enum.Enum):
    """What is to be done on this machine."""

    DEMO = "demo"
    TEST = "test"
    CLUSTER = "cluster"


def venv_problems(venv: Path, needed_bytes: int) -> list[str]:
    """What stands in the way of the Python environment, which takes these bytes of its own disk."""
    found = []
    if not venv.exists() and importlib.util.find_spec("ensurepip") is None:
        found.append("Python's venv module is missing: apt-get install python3-venv.")
    free = shutil.disk_usage(_existing(venv)).free
    if free < needed_bytes:
        found.append(
            f"{venv} has {free / GB:.1f} GB free and {needed_bytes / GB:.1f} GB are needed for the "
            "Python packages: free some, or set VENV to a folder on another disk."
        )
    return found


def packages_bytes(purpose: Purpose, venv: Path) -> int:
    """What is still to be installed into the Python environment."""
    if purpose is Purpose.TEST:
        return 0 if (venv / ".dev").exists() else ALL_PACKAGES_BYTES
    return 0 if (venv / ".tools").exists() else TOOLS_BYTES


def is_same_disk(one: Path, other: Path) -> bool:
    """Whether the folders, or those that they will be made in, lie on one file system."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
