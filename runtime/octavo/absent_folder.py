"""Absent folders: what is said of a local path that was named as a folder and is none that can be listed."""

from __future__ import annotations

from pathlib import Path


def why_no_folder(folder: Path) -> str | None:
    """A sentence that says what is under this path; None where it is a folder that can be listed."""
    try:
        next(folder.iterdir(), None)
    except NotADirectoryError:
        return f"{folder} is a file, and no folder." if folder.exists() else _nothing(folder)
    except FileNotFoundError:
        if folder.is_symlink():
            return f"{folder} is a link to {folder.readlink()}, which is not there."
        return _nothing(folder)
    except (OSError, ValueError) as error:  # a loop of links, no right to it, a name too long
        why = error.strerror if isinstance(error, OSError) else error
        return f"The folder {folder} cannot be read: {why}."
    return None


def _nothing(folder: Path) -> str:
    return f"There is no folder {folder}."
