"""Memory limit. Tells a container's memory limit from other reasons for which the kernel ends a process."""

from __future__ import annotations

from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
# Of cgroup v2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) and of v1
# (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html); each has a line `oom_kill N`.
_FILES = ("memory.events", "memory/memory.oom_control")


def count_oom_kills(cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Processes of this container that the kernel killed for memory so far; 0 where it does not say."""
    for name in _FILES:
        try:
            lines = (cgroup_root / name).read_text().splitlines()
        except OSError:
            continue
        counts = dict(line.split(maxsplit=1) for line in lines if " " in line)
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0
