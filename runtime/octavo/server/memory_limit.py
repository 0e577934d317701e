"""Tells a container's memory limit from other reasons for which the kernel ends a process."""

from __future__ import annotations

from pathlib import Path

_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


def count_oom_kills(path: Path = _MEMORY_EVENTS) -> int:
    """Processes of this container that the kernel killed for memory so far; 0 where it does not say.

    The file is cgroup v2's (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.events).
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return int(counts.get("oom_kill", 0))
