"""Cache layout: where everything that outlives a command is kept, outside the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from host.paths import cache_root

LONGEST_CACHE_PATH = 60
"""Unix sockets live below the cache, and the kernel ends their paths at 107 characters."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders below `root`; nothing is created by asking for a path."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "cluster.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def debian(self) -> Path:
        return self.root / "debian"

    @property
    def engine(self) -> Path:
        return self.root / "engine"

    @property
    def engine_socket(self) -> Path:
        return self.engine / "docker.sock"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def node_image(self) -> Path:
        return self.root / "node-image"

    @property
    def go_build(self) -> Path:
        return self.root / "go-build"

    def binaries(self, tool: str, version: str) -> Path:
        return self.root / "bin" / f"{tool}-{version}"

    def cluster(self, name: str) -> Path:
        return self.root / "clusters" / name

    def kubeconfig(self, name: str) -> Path:
        return self.cluster(name) / "kubeconfig"


def cache_layout() -> Layout:
    """The layout below `$OCTAVO_CACHE`, by default `~/.cache/octavo`."""
    return Layout(cache_root())
