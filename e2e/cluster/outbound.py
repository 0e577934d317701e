"""Let containers of our own engine reach the outside: one nftables table that we own.

Docker's own rules are many and stay behind when it is killed. This is one table with one rule; it
is deleted as a whole, and `ip_forward` goes back to what it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster import debian
from e2e.cluster.paths import Layout
from e2e.cluster.process import run, succeeds

TABLE = "octavo"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def ruleset(bridge: str) -> str:
    """nftables commands that masquerade what leaves the bridge for elsewhere."""
    return (
        f"add table ip {TABLE}\n"
        f"flush table ip {TABLE}\n"
        f"add chain ip {TABLE} postrouting {{ type nat hook postrouting priority srcnat; }}\n"
        f'add rule ip {TABLE} postrouting iifname "{bridge}" oifname != "{bridge}" masquerade\n'
    )


def open_for(layout: Layout, environment: Mapping[str, str]) -> None:
    """Masquerade for the engine's bridge. Without nftables containers stay inside the machine."""
    nft = shutil.which("nft", path=environment["PATH"])
    if nft is None:
        return
    record = layout.engine / "outbound.json"
    if not record.exists():
        record.write_text(json.dumps({"ip_forward": _FORWARD.read_text().strip()}))
    _FORWARD.write_text("1")
    run([nft, "--file", "-"], env=environment, stdin=ruleset(bridge_name()))


def close(layout: Layout) -> None:
    """Remove the table and set forwarding back; nothing happens if `open_for` never ran."""
    record = layout.engine / "outbound.json"
    if not record.exists():
        return
    environment = debian.engine_packages(layout).environment(os.environ)
    nft = shutil.which("nft", path=environment["PATH"])
    if nft is not None and succeeds([nft, "list", "table", "ip", TABLE], env=environment):
        run([nft, "delete", "table", "ip", TABLE], env=environment)
    _FORWARD.write_text(json.loads(record.read_text())["ip_forward"])
    record.unlink()


def bridge_name() -> str:
    """The Linux bridge of the engine's one network."""
    return "octavo-kind"
