"""Locked archives: source archives of packages, for what their wheels leave out, by the hashes of a lock.

`python -m host.locked_archives FOLDER LOCK PYTHON`: pip asks an archive for its metadata, so PYTHON has what
builds it; nothing is installed.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from host.side_environment import install_once

_DOWNLOAD = ("download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation")


def unpack(folder: Path, archives: Path) -> None:
    """Of a folder's archives all that lies within it when unpacked."""
    for archive in sorted(archives.iterdir()):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")


def fetch(folder: Path, lock: Path, python: Path) -> None:
    """Makes the folder, or anew where the lock has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as made:
        locked: list[str | Path] = ["--require-hashes", "-r", lock, "--dest", made]
        command = [python, "-m", "pip", *_DOWNLOAD, *locked]
        install_once(folder, lock, command, then=lambda: unpack(folder, Path(made)))


if __name__ == "__main__":
    fetch(*(Path(name).absolute() for name in sys.argv[1:4]))
