"""Processes of a server and of its ranks, found from outside, and what they listen on."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path


def rank_pids(parent: int) -> list[int]:
    """Of the ranks that a process leads, in their order."""
    found = []
    for child in _children(parent):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"octavo.worker.ranks.process" in words:
            found.append(child)
    return sorted(found)


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def family(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    for child in _children(pid):
        yield from family(child)


def listening_addresses(pid: int, *prefix: str) -> set[str]:
    """Where the family of `pid` listens, without ports. Others of the machine may listen as they like.

    `prefix` begins the command that looks: it enters their network.
    """
    ours = set(family(pid))
    command = (*prefix, "ss", "-Hltnp")
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        line.split()[3].rpartition(":")[0]
        for line in lines
        if ours & {int(found) for found in re.findall(r"pid=(\d+)", line)}
    }


def has_ended(pid: int) -> bool:
    """No process, or one that nobody has buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def own_loopback() -> str:
    """Of this process alone, so that no port is anybody else's."""
    pid = os.getpid()
    return f"127.{1 + pid // 2**16 % 250}.{pid // 2**8 % 2**8}.{pid % 2**8}"
