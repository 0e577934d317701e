"""Preflight: what a machine needs before anything is started, told at once, by name, with what to do."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import versions
from e2e.docker import Engine
from e2e.paths import LONGEST_CACHE_PATH, Layout
from e2e.programs import binaries, go
from e2e.registry import container as registry
from e2e.without_docker.node_image import built_reference
from host.errors import ToolError

GB = 1000**3
ALL_BUILDS_BYTES = 20 * GB
"""Go's modules and build cache, the programs and the node image, at the peak of a bare machine."""
ALL_BUILDS_LEFT_BYTES = 9 * GB
"""What stays of them: the modules, the programs, the engine and its node image."""
NODE_IMAGE_BYTES = 4 * GB
NODE_IMAGE_LEFT_BYTES = 1 * GB
POD_NODE_BYTES = 6 * GB
"""The runtime's image on a node that takes pods, and what the node writes."""
PULL_BYTES = 3 * GB
"""Compressed layers of the runtime's image, until they are unpacked."""
CPU_TORCH_SHARE = 3
"""An image with PyTorch's CPU-only wheel takes a third of all that, or less."""
API_SERVER_TOOLS = ("etcd", "kube-apiserver")
_NEEDED_PROGRAMS = ("apt-get", "dpkg-deb", "unshare", "tar", "ldd", "chroot")


@dataclass(frozen=True, slots=True)
class Later:
    """Bytes that the caller puts on the cache's disk besides the cluster: packages before it, and
    images after it, of which `image_peak` are taken while they are built and `image_left` stay."""

    packages: int = 0
    image_peak: int = 0
    image_left: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found on the machine; `free_bytes` where the cache lies, `new_pod_nodes` to come."""

    system: str
    architecture: str
    is_root: bool
    has_docker: bool
    go_version: go.Version | None
    has_node_image: bool
    has_built_binaries: bool
    missing_tools: Sequence[str]
    cache: Path
    free_bytes: int
    new_pod_nodes: int
    missing_programs: Sequence[str]
    registry_port_is_taken: bool
    has_cpu_torch: bool = False
    later: Later = Later()


def look(
    layout: Layout,
    engine: Engine | None,
    new_pod_nodes: int,
    *,
    later: Later | None = None,
    needed_tools: Sequence[str] = (),
) -> Machine:
    """Look at the machine; `engine` is the one that runs, if any.

    `needed_tools` are programs that the caller has built whatever is on PATH.
    """
    existing = next(path for path in (layout.root, *layout.root.parents) if path.exists())
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        has_docker=engine is not None,
        go_version=go.installed(),
        has_node_image=engine is not None and engine.has_image(built_reference()),
        has_built_binaries=all(binaries.is_built(name, layout) for name in versions.GO_TOOLS),
        missing_tools=[
            *binaries.missing(layout),
            *(name for name in needed_tools if not binaries.is_built(name, layout)),
        ],
        cache=layout.root,
        free_bytes=shutil.disk_usage(existing).free,
        new_pod_nodes=new_pod_nodes,
        missing_programs=[name for name in _NEEDED_PROGRAMS if not _is_installed(name)],
        registry_port_is_taken=registry.port_is_taken()
        and not (engine is not None and registry.exists(engine)),
        has_cpu_torch=bool(os.environ.get("OCTAVO_CPU_TORCH_INDEX")),
        later=later or Later(),
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
    elif machine.missing_tools and (wrong_go := go.problem(machine.go_version)):
        found.append(
            f"{', '.join(machine.missing_tools)} was not found in a version that fits "
            f"(kind {versions.KIND}, kubectl {versions.KUBERNETES}, helm {versions.HELM}) and would "
            f"be built, but {wrong_go}. {go.INSTALL_HINT}"
        )
    if machine.registry_port_is_taken:
        found.append(
            f"Something listens on 127.0.0.1:{registry.PORT}, where the registry of the cluster "
            "will: stop it (`ss -ltnp` names it)."
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


def requires_api_server() -> bool:
    """Whether the tests against a real API server must run, on every machine."""
    return "apiserver" in os.environ.get("OCTAVO_REQUIRE", "").split(",")


def needed_bytes(machine: Machine) -> int:
    """Free disk that the cluster, the images and the pods need, at the fullest moment of all."""
    peak, left = 0, 0
    if not machine.has_node_image:
        has_tools = machine.has_docker or machine.has_built_binaries
        peak = NODE_IMAGE_BYTES if has_tools else ALL_BUILDS_BYTES
        left = NODE_IMAGE_LEFT_BYTES if has_tools else ALL_BUILDS_LEFT_BYTES
    before_images = machine.later.packages + left
    with_images = machine.later.image_left
    if machine.new_pod_nodes:
        with_images += machine.new_pod_nodes * POD_NODE_BYTES + PULL_BYTES
    running = before_images + with_images // (CPU_TORCH_SHARE if machine.has_cpu_torch else 1)
    return max(machine.later.packages + peak, before_images + machine.later.image_peak, running)


def check(machine: Machine, others: Sequence[str] = ()) -> None:
    """Raise `ToolError` naming everything that is missing, `others` that the caller found first."""
    found = [*others, *problems(machine)]
    if found:
        lines = "\n".join(f"- {problem}" for problem in found)
        raise ToolError(f"A cluster can't be started on this machine:\n{lines}")


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
    wrong_go = go.problem(machine.go_version)
    if wrong_go and not machine.has_built_binaries:
        found.append(
            "No Docker answers, so the tools and the node image are built with Go, but "
            f"{wrong_go}. {go.INSTALL_HINT} Or start Docker."
        )
    return found
