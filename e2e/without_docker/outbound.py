"""Let containers of our own engine reach the outside: one nftables table that we own.

Docker's own rules are many and stay behind when it is killed. This is one table with one rule; it
is deleted as a whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from e2e.docker import BRIDGE
from e2e.paths import Layout
from e2e.without_docker.engine_packages import engine_packages
from host.process import run, succeeds

TABLE = "octavo"


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
    (layout.engine / "outbound-is-open").touch()
    run([nft, "--file", "-"], env=environment, stdin=ruleset(BRIDGE))


def close(layout: Layout) -> None:
    """Remove the table; nothing happens if `open_for` never ran."""
    mark = layout.engine / "outbound-is-open"
    if not mark.exists():
        return
    environment = engine_packages(layout).environment(os.environ)
    nft = shutil.which("nft", path=environment["PATH"])
    if nft is not None and succeeds([nft, "list", "table", "ip", TABLE], env=environment):
        run([nft, "delete", "table", "ip", TABLE], env=environment)
    mark.unlink()
