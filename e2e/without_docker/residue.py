"""Residue. What an engine leaves on the machine when it ends, and how it goes away again.

A Docker engine that is killed can't tidy up, so this does not rely on it: the bridge, the empty
control groups and the few paths outside its own folders are removed by name. By ioctl, since neither
iproute2 nor pyroute2 need be here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import time
from pathlib import Path

from e2e.docker import BRIDGE
from e2e.paths import Layout

CGROUP_PARENT = "octavo"

# Deepest first: a folder is removed only if it is empty.
_PATHS_OUTSIDE = (
    Path("/etc/docker/key.json"),
    Path("/etc/docker"),
    Path("/run/docker/plugins"),
    Path("/run/docker"),
)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCBRDELBR = 0x8913, 0x8914, 0x89A1
_IFF_UP = 1
_LINKS_GONE_SECONDS = 15.0


def remember(layout: Layout) -> None:
    """Write down which paths are not there yet; called before the engine starts."""
    record = _record(layout)
    if not record.exists():
        record.write_text(json.dumps([str(path) for path in _PATHS_OUTSIDE if not path.exists()]))


def remove(layout: Layout) -> None:
    """Take away what an engine left that has ended; nothing happens if it left nothing."""
    _remove_cgroups(Path("/sys/fs/cgroup"))
    record = _record(layout)
    if record.exists():
        _remove_bridge(BRIDGE)
        for path in map(Path, json.loads(record.read_text())):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        record.unlink()


def _record(layout: Layout) -> Path:
    return layout.engine / "absent-before.json"


def _remove_cgroups(root: Path) -> None:
    """The kernel keeps control groups after their processes are gone; one in use stays."""
    for hierarchy in (root, *root.glob("*")):
        for folder, _, _ in os.walk(hierarchy / CGROUP_PARENT, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _remove_bridge(name: str) -> None:
    padded = name.encode().ljust(16, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", padded, 0)
        try:
            _, flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        _wait_for_links(Path("/sys/class/net", name, "brif"))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", padded, flags & ~_IFF_UP))
        fcntl.ioctl(control, _SIOCBRDELBR, padded)


def _wait_for_links(ports: Path) -> None:
    """The kernel takes the ends of ended containers' links away a moment later."""
    deadline = time.monotonic() + _LINKS_GONE_SECONDS
    while ports.is_dir() and any(ports.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
