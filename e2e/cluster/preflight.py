"""What a machine needs before anything is started: told at once, by name, with what to do."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import binaries, versions
from e2e.cluster.engine import Engine
from e2e.cluster.errors import ClusterError
from e2e.cluster.node_image import built_reference
from e2e.cluster.paths import LONGEST_CACHE_PATH, Layout

ALL_BUILDS_BYTES = 20 * 1000**3
"""Go's modules and build cache, the programs and the node image, at the peak of a bare machine."""
NODE_IMAGE_BYTES = 4 * 1000**3
POD_NODE_BYTES = 6 * 1000**3
"""The runtime's image on a node that takes pods, and what the node writes."""
PULL_BYTES = 3 * 1000**3
"""Compressed layers of the runtime's image, until they are unpacked."""
_NEEDED_PROGRAMS = ("apt-get", "dpkg-deb", "unshare", "tar", "ldd", "chroot")


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found on the machine; `free_bytes` where the cache lies, `new_pod_nodes` to come."""

    system: str
    architecture: str
    is_root: bool
    has_docker: bool
    has_go: bool
    has_node_image: bool
    has_built_binaries: bool
    missing_tools: Sequence[str]
    cache: Path
    free_bytes: int
    new_pod_nodes: int
    missing_programs: Sequence[str]


def look(layout: Layout, engine: Engine | None, new_pod_nodes: int) -> Machine:
    """Look at the machine; `engine` is the one that runs, if any."""
    existing = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        has_docker=engine is not None,
        has_go=shutil.which("go") is not None,
        has_node_image=engine is not None and engine.has_image(built_reference()),
        has_built_binaries=all(
            (layout.binaries(tool.binary, tool.version) / tool.binary).exists()
            for tool in versions.GO_TOOLS.values()
        ),
        missing_tools=binaries.missing(layout),
        cache=layout.root,
        free_bytes=shutil.disk_usage(existing).free,
        new_pod_nodes=new_pod_nodes,
        missing_programs=[name for name in _NEEDED_PROGRAMS if not _is_installed(name)],
    )


def _is_installed(program: str) -> bool:
    # The system folders of root's programs are not on everybody's PATH.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return shutil.which(program, path=path) is not None


def problems(machine: Machine) -> list[str]:
    """What stands in the way, one sentence each with the next step; empty when nothing does."""
    found = []
    if not machine.has_docker:
        found += _problems_without_docker(machine)
    elif machine.missing_tools and not machine.has_go:
        found.append(
            f"{', '.join(machine.missing_tools)} was not found on PATH in a version that fits "
            f"(kind {versions.KIND}, kubectl {versions.KUBERNETES}, helm {versions.HELM}) and Go, "
            "which builds them, neither: install either."
        )
    if len(str(machine.cache)) > LONGEST_CACHE_PATH:
        found.append(
            f"The cache's path {machine.cache} has {len(str(machine.cache))} characters and may "
            f"have {LONGEST_CACHE_PATH}: set OCTAVO_CACHE to a shorter one."
        )
    needed = needed_bytes(machine)
    if machine.free_bytes < needed:
        found.append(
            f"{machine.cache} has {machine.free_bytes / 1e9:.1f} GB free and "
            f"{needed / 1e9:.0f} GB are needed: free some, or set OCTAVO_CACHE to another disk."
        )
    return found


def needed_bytes(machine: Machine) -> int:
    """Free disk that `up` and the pods after it need; a build's temporary files are gone by then."""
    building = 0
    if not machine.has_node_image:
        has_tools = machine.has_docker or machine.has_built_binaries
        building = NODE_IMAGE_BYTES if has_tools else ALL_BUILDS_BYTES
    running = machine.new_pod_nodes * POD_NODE_BYTES + PULL_BYTES if machine.new_pod_nodes else 0
    return max(building, running)


def check(machine: Machine) -> None:
    """Raise `ClusterError` naming everything that is missing."""
    found = problems(machine)
    if found:
        lines = "\n".join(f"- {problem}" for problem in found)
        raise ClusterError(f"A cluster can't be started on this machine:\n{lines}")


def _problems_without_docker(machine: Machine) -> list[str]:
    if machine.system != "Linux":
        return [f"No Docker answers: start Docker Desktop (this machine runs {machine.system})."]
    if not machine.is_root:
        return ["No Docker answers and you are not root: start Docker, or run this as root."]
    found = []
    if machine.architecture not in ("x86_64", "aarch64"):
        found.append(f"The architecture is {machine.architecture}; x86_64 or aarch64 is needed.")
    if machine.missing_programs:
        found.append(
            f"No Docker answers and {', '.join(machine.missing_programs)} was not found: start "
            "Docker, or use Debian or Ubuntu, where the engine can be taken from a package."
        )
    if not machine.has_go and not machine.has_built_binaries:
        found.append(
            "No Docker answers and Go was not found, which builds the tools and perhaps the "
            "node image: install Go from https://go.dev/dl/, or start Docker."
        )
    return found
