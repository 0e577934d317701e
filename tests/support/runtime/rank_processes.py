"""Processes of ranks, found from outside."""

from __future__ import annotations

from pathlib import Path


def rank_pids(parent: int) -> list[int]:
    """Of the ranks that a process leads, in their order."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"octavo.worker.ranks.process" in words:
                found.append(int(child))
    return sorted(found)


def has_ended(pid: int) -> bool:
    """No process, or one that nobody has buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
