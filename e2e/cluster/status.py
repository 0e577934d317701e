"""Status. What runs, where it is and what it takes: for a person who wants to know, or to clean up."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from e2e import engine
from e2e.cluster import kind
from e2e.cluster.cluster import Cluster, known_clusters, open_cluster
from e2e.docker import Engine
from e2e.paths import Layout
from e2e.registry import container as registry
from host.errors import ToolError
from host.system import disk_use


def show(layout: Layout, name: str = "") -> None:
    """Print the engine, the registry, the clusters (or the one named) and the disk they take."""
    console = Console(highlight=False)
    running = engine.running_engine(layout)
    table = Table.grid(padding=(0, 2))
    table.add_row("engine", _engine_line(running, layout))
    table.add_row("registry", _registry_line(running, layout))
    clusters = [name] if name else known_clusters(layout)
    for each in clusters:
        try:
            table.add_row(f"cluster {each}", _cluster_lines(open_cluster(each), running))
        except ToolError as error:
            table.add_row(f"cluster {each}", error.message)
    if not clusters:
        table.add_row("clusters", "none")
    table.add_row("cache", f"{layout.root}, {_size(disk_use(layout.root))}")
    console.print(table)


def _engine_line(running: Engine | None, layout: Layout) -> str:
    if running is None:
        return "none runs"
    version = running.call("version", "--format", "{{.Server.Version}}").strip()
    if running.is_ours:
        return f"Docker {version}, started by us: unix://{layout.engine_socket}"
    return f"Docker {version}, yours"


def _registry_line(running: Engine | None, layout: Layout) -> str:
    size = _size(registry.data_bytes(layout))
    if running is None or not registry.is_running(running):
        return f"stopped, {size} of images"
    return f"{registry.ADDRESS}, {size} of images"


def _cluster_lines(cluster: Cluster, running: Engine | None) -> str:
    lines = [f"kubeconfig {cluster.kubeconfig}"]
    if cluster.is_kind and running is None:
        return "\n".join([*lines, "stopped"])
    try:
        nodes = cluster.kubectl("get", "nodes", "--no-headers", timeout_seconds=15)
    except ToolError:
        return "\n".join([*lines, "does not answer"])
    lines += [" ".join(line.split()[:2]) for line in nodes.splitlines()]
    if cluster.is_kind and running is not None:
        containers = kind.node_containers(running, cluster.name)
        lines.append(f"containers {', '.join(containers)}")
    enforced = {True: "enforced", False: "not enforced", None: "not known"}
    lines.append(f"NetworkPolicy {enforced[cluster.enforces_network_policy]}")
    lines.append(f"kubectl {cluster.kubectl_path}")
    lines.append(f"helm {cluster.helm_path}")
    return "\n".join(lines)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
