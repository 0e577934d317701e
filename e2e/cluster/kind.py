"""Create and delete kind clusters: one node for the demo, a control plane and workers for tests."""

from __future__ import annotations

import json
from pathlib import Path

from e2e import versions
from e2e.cluster.node_image import NodeImage
from e2e.docker import Engine
from e2e.paths import Layout
from e2e.programs import binaries
from host.errors import CommandError, ToolError
from host.process import run, succeeds
from host.progress import step

_READY_SECONDS = 120
_LABEL = "io.x-k8s.kind.cluster"
"""kind puts it on a node's container; its value is the cluster's name."""


def configuration(workers: int, image: NodeImage) -> str:
    """kind's configuration as JSON, which is YAML too.

    A control plane without workers takes all pods; with workers it keeps its taint.
    """
    document: dict[str, object] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(workers))],
    }
    if not image.is_published:
        # kubeadm asks for the CoreDNS of its own release; the node image holds another one.
        dns = {"kind": "ClusterConfiguration", "dns": {"imageTag": versions.COREDNS}}
        document["kubeadmConfigPatches"] = [json.dumps(dns)]
    return json.dumps(document, indent=2)


def clusters(engine: Engine) -> set[str]:
    """The names of the clusters on this engine, complete or not; kind itself is not needed for it."""
    shown = f'{{{{.Label "{_LABEL}"}}}}'
    return set(engine.call("ps", "--all", "--filter", f"label={_LABEL}", "--format", shown).split())


def node_containers(engine: Engine, name: str) -> list[str]:
    """The containers that are the cluster's nodes, running or not, sorted."""
    label = f"label={_LABEL}={name}"
    listed = engine.call("ps", "--all", "--filter", label, "--format", "{{.Names}}")
    return sorted(listed.split())


def create(engine: Engine, name: str, workers: int, image: NodeImage, layout: Layout) -> None:
    """Create the cluster and wait until its nodes are ready. A failed one is removed again."""
    folder = layout.cluster(name)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "kind.json"
    config.write_text(configuration(workers, image))
    log = folder / "kind.log"
    command: list[str | Path] = [binaries.kind(layout), "create", "cluster", "--name", name]
    command += ["--image", image.reference, "--config", config]
    command += ["--kubeconfig", layout.kubeconfig(name), "--wait", f"{_READY_SECONDS}s", "--retain"]
    nodes = "1 node" if workers == 0 else f"1 control plane and {workers} more"
    with step(f"Create the cluster {name} ({nodes})"):
        try:
            run(command, env=_environment(engine), log=log, timeout_seconds=900)
        except CommandError as error:
            _keep_logs(engine, name, layout)
            delete(engine, name, layout)
            raise ToolError(
                f"kind could not create the cluster {name}:\n{error.answer[-1500:]}",
                hint=_hint(folder / "logs"),
                log=log,
            ) from error


def delete(engine: Engine, name: str, layout: Layout) -> None:
    """Delete the cluster; nothing happens if there is none."""
    command: list[str | Path] = [binaries.kind(layout), "delete", "cluster", "--name", name]
    command += ["--kubeconfig", layout.kubeconfig(name)]
    run(command, env=_environment(engine), log=layout.cluster(name) / "kind.log")


def write_kubeconfig(engine: Engine, name: str, layout: Layout) -> None:
    """Write the kubeconfig again: the API server's port changes when its container restarts."""
    kind = binaries.kind(layout)
    text = run([kind, "get", "kubeconfig", "--name", name], env=_environment(engine))
    path = layout.kubeconfig(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def _hint(logs: Path) -> str:
    """What the nodes' logs tell of the cause, and where they are."""
    kept = f"The nodes' logs were kept in {logs}."
    for serial in logs.glob("*/serial.log"):
        if "Too many open files" in serial.read_text(errors="replace"):
            return (
                "The kernel's limit of inotify instances is too low for another node: "
                f"`sysctl fs.inotify.max_user_instances=1024` raises it. {kept}"
            )
    return kept


def _keep_logs(engine: Engine, name: str, layout: Layout) -> None:
    kind = binaries.kind(layout)
    target = layout.cluster(name) / "logs"
    succeeds(
        [kind, "export", "logs", target, "--name", name],
        env=_environment(engine),
        timeout_seconds=120,
    )


def _environment(engine: Engine) -> dict[str, str]:
    """kind finds docker on PATH, so the engine's own client must come first."""
    environment = binaries.with_folders_first(engine.environment, Path(engine.docker).parent)
    environment["KIND_EXPERIMENTAL_PROVIDER"] = "docker"
    environment.pop("KUBECONFIG", None)
    environment.setdefault("HOME", str(Path.home()))
    return environment
