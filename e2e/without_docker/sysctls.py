"""Kernel settings that nodes in containers need, raised while our engine runs and then set back."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.paths import Layout

LEAST = {
    # Packets of containers leave through the machine.
    "net/ipv4/ip_forward": 1,
    # Each node runs a systemd, a containerd and a kubelet that watch files; all are root's.
    "fs/inotify/max_user_instances": 1024,
    "fs/inotify/max_user_watches": 524288,
}
"""The least value of each setting; a higher one is left alone."""


def raise_all(layout: Layout, root: Path = Path("/proc/sys")) -> None:
    """Raise what is too low, and write down what it was. Safe to repeat."""
    record = _record(layout)
    before: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
    for name, least in LEAST.items():
        found = int((root / name).read_text())
        if found < least:
            before.setdefault(name, found)
            record.write_text(json.dumps(before))  # first, in case we are interrupted
            (root / name).write_text(str(least))


def set_back(layout: Layout, root: Path = Path("/proc/sys")) -> None:
    """Set back what was raised, unless somebody else has changed it since."""
    record = _record(layout)
    if not record.exists():
        return
    for name, value in json.loads(record.read_text()).items():
        if int((root / name).read_text()) == LEAST[name]:
            (root / name).write_text(str(value))
    record.unlink()


def _record(layout: Layout) -> Path:
    return layout.engine / "sysctls-before.json"
