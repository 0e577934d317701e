"""Debian packages of the private engine: dockerd, containerd, runc and what they need of the network."""

from __future__ import annotations

from pathlib import Path

from e2e import versions
from e2e.paths import Layout
from host.debian import Unpacked, unpacked


def engine_packages(layout: Layout) -> Unpacked:
    """The distribution's Docker engine with its tools, unpacked below the cache."""
    return unpacked(
        "engine",
        versions.ENGINE_DEBIAN_PACKAGES,
        ("dockerd", "containerd", "runc", "nft"),
        layout.debian,
        layout.logs / "debian.log",
        finish=_link_iptables,
    )


def _link_iptables(root: Path) -> None:
    """Debian chooses the iptables variant by alternatives at installation; we choose nft."""
    folder = root / "usr/sbin"
    if not (folder / "xtables-nft-multi").exists():
        return
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables"):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to("xtables-nft-multi")
