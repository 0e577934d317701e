"""Cluster as the demo and the tests use it: ensure that it runs, ask it, remove it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e import engine, versions
from e2e.cluster import fake_gpus, kind
from e2e.cluster.node_image import NodeImage, ensure_node_image
from e2e.docker import NETWORK, Engine, ensure_network
from e2e.monitoring import prometheus
from e2e.paths import Layout, cache_layout
from e2e.preflight import machine as preflight
from e2e.programs import binaries
from e2e.registry import container as registry
from e2e.registry import local_images as images
from e2e.without_docker import engine as own_engine
from host.errors import ToolError
from host.process import run, succeeds
from host.progress import say, step
from host.system import exclusive

COMMAND = ".venv/bin/python -m e2e.cluster"
"""What a person types at the repository's root; it is in many a hint."""
_NODE_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers. Nothing here changes it unless a method says so.

    `registry` is the address that images are pushed to and that pods name, empty for a cluster of
    the user's own without one; `enforces_network_policy` is None where we cannot know.
    """

    name: str
    kubeconfig: Path
    kubectl_path: Path
    helm_path: Path
    registry: str
    is_kind: bool
    enforces_network_policy: bool | None
    layout: Layout

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which kubectl, helm and Kubernetes clients reach this cluster."""
        folders = (self.kubectl_path.parent, self.helm_path.parent)
        environment = binaries.with_folders_first(os.environ, *folders)
        environment["KUBECONFIG"] = str(self.kubeconfig)
        return environment

    def kubectl(
        self,
        *arguments: str | Path,
        stdin: str | None = None,
        timeout_seconds: float = 300,
    ) -> str:
        """Run kubectl and return what it prints; raises `CommandError` with what it complains."""
        command = [self.kubectl_path, *arguments]
        return run(command, env=self.environment, stdin=stdin, timeout_seconds=timeout_seconds)

    def helm(self, *arguments: str | Path, timeout_seconds: float = 600) -> str:
        """Run helm and return what it prints."""
        command = [self.helm_path, *arguments]
        return run(command, env=self.environment, timeout_seconds=timeout_seconds)

    def nodes(self) -> list[str]:
        """The names of all nodes, sorted."""
        listed = self.kubectl("get", "nodes", "--output=name")
        return sorted(line.removeprefix("node/") for line in listed.split())

    def workers(self) -> list[str]:
        """The names of the nodes that take ordinary pods."""
        listed = json.loads(self.kubectl("get", "nodes", "--output=json"))["items"]
        taken = ("NoSchedule", "NoExecute")
        return sorted(
            node["metadata"]["name"]
            for node in listed
            if not any(taint["effect"] in taken for taint in node["spec"].get("taints", []))
        )

    def set_fake_gpus(self, count: int, nodes: Sequence[str] | None = None) -> None:
        """Let each of the nodes, by default all workers, claim `count` GPUs. Changes the cluster."""
        fake_gpus.set_fake_gpus(self.kubectl, nodes or self.workers(), count)

    def begin_pull(self, references: Sequence[str]) -> None:
        """Have the workers of a kind cluster fetch images; returns at once.

        A pull that fails costs time alone: the first pod that needs the image has it pulled.
        """
        nodes = self.node_engine()
        for node in self.workers():
            for reference in references:
                nodes.call("exec", "--detach", node, "crictl", "pull", reference)

    def load_image(self, reference: str) -> str:
        """Push a local image to the registry and return the name that pods use."""
        if not self.is_kind:
            raise ToolError(
                f"{self.name} is a cluster of your own, so its registry is yours too",
                hint="Push the image there and name it in full.",
            )
        with exclusive(self.layout.lock):
            found = _running_engine(self.layout)
            return images.load_image(reference, found, self.layout)

    def node_engine(self) -> Engine:
        """The engine whose containers are the nodes: to stop, start or pause one."""
        if not self.is_kind:
            raise ToolError(f"The nodes of {self.name} are not containers of ours")
        return _running_engine(self.layout)


def ensure_cluster(
    name: str,
    workers: int = 0,
    fake_gpus: int = 0,
    *,
    with_prometheus: bool = True,
) -> Cluster:
    """The cluster, started where it does not run, with registry and Prometheus. Safe to repeat.

    A cluster that runs with another number of workers is used as it is if it has more, and
    refused if it has fewer: nobody's pods are taken away unasked.
    """
    layout = cache_layout()
    running = engine.running_engine(layout)
    is_new = not (layout.cluster(name) / "cluster.json").exists()
    preflight.check(preflight.look(layout, running, max(1, workers) if is_new else 0))
    with exclusive(layout.lock):
        docker = engine.ensure_engine(layout)
        _require_ours(docker, name, layout)
        if not _is_whole(docker, name, layout):
            _create(docker, name, workers, layout)
        registry.ensure_registry(docker, layout)
        containers = kind.node_containers(docker, name)
        registry.teach_nodes(docker, containers)
        registry.collect_garbage(docker, layout)
        cluster = _cluster(name, layout)
        if len(containers) - 1 < workers:
            raise ToolError(
                f"The cluster {name} has {len(containers) - 1} workers, not {workers}",
                hint=f"`{COMMAND} down --name {name}` removes it first.",
            )
        if with_prometheus and not _prometheus_is_available(cluster):
            prometheus.install(cluster.kubectl, prometheus.ensure_image(docker, layout))
        binaries.drop_build_cache(layout)
    if fake_gpus:
        cluster.set_fake_gpus(fake_gpus)
    return cluster


def adopt_context(name: str, context: str, *, with_prometheus: bool = False) -> Cluster:
    """Use the cluster of a kubeconfig context as it is; Prometheus is installed only when asked."""
    layout = cache_layout()
    kubectl = binaries.any_kubectl(layout)
    command: list[str | Path] = [kubectl, "config", "view", "--minify", "--flatten"]
    text = run([*command, "--context", context])
    path = layout.kubeconfig(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    _write_record(layout, name, _Record(is_kind=False, enforces_network_policy=None))
    run([kubectl, "--kubeconfig", path, "config", "use-context", context])
    cluster = _cluster(name, layout)
    with step(f"Ask the cluster of the context {context}"):
        cluster.kubectl("version", "--output=json", timeout_seconds=30)
    if with_prometheus:
        prometheus.install(cluster.kubectl, versions.PUBLISHED_PROMETHEUS_IMAGE)
    return cluster


def open_cluster(name: str) -> Cluster:
    """The cluster that an earlier call started or adopted; raises `ToolError` if there is none."""
    layout = cache_layout()
    if not layout.kubeconfig(name).exists():
        raise ToolError(
            f"There is no cluster {name}",
            hint=f"`{COMMAND} up --name {name}` starts it.",
        )
    return _cluster(name, layout)


def known_clusters(layout: Layout) -> list[str]:
    """The names of the clusters that were started or adopted and not removed."""
    return sorted(path.parent.name for path in layout.root.glob("clusters/*/kubeconfig"))


def remove_cluster(name: str, *, everything: bool = False) -> None:
    """Remove the cluster; with `everything` all clusters, the registry and the engine we started.

    A cluster of the user's own is only forgotten. What was built stays in the cache.
    """
    layout = cache_layout()
    with exclusive(layout.lock):
        docker = engine.engine_with_containers(layout)
        names = _names_in_use(docker, layout) if everything else [name]
        found = [each for each in names if _remove(docker, each, layout)]
        if everything and docker is not None:
            found += [registry.CONTAINER] if registry.remove_registry(docker) else []
            if docker.is_ours:
                found.append("engine")
                succeeds([docker.docker, "network", "rm", NETWORK], env=docker.environment)
        if everything:
            own_engine.stop(layout)  # an engine that died may have left something, too
    if not found:
        say("Nothing to take down: no cluster, registry or engine of ours is here.")


def _remove(docker: Engine | None, name: str, layout: Layout) -> bool:
    """Remove or forget the cluster; False when there was none of ours."""
    folder = layout.cluster(name)
    has_nodes = docker is not None and bool(kind.node_containers(docker, name))
    if not folder.exists() and not has_nodes:
        return False
    # Where an interrupted start made no node there may be no kind yet, and nothing for it to delete.
    if docker is not None and has_nodes and _read_record(layout, name).is_kind:
        _require_ours(docker, name, layout)
        with step(f"Delete the cluster {name}"):
            kind.delete(docker, name, layout)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _require_ours(docker: Engine, name: str, layout: Layout) -> None:
    """Raise `ToolError` for a kind cluster that somebody else made under this name.

    Ours is what runs on our own engine, and what we wrote down before we asked kind for it.
    """
    is_written_down = layout.cluster(name).exists() and _read_record(layout, name).is_kind
    if docker.is_ours or is_written_down or not kind.node_containers(docker, name):
        return
    raise ToolError(
        f"A kind cluster {name} runs that Octavo did not start (there is no {layout.cluster(name)})",
        hint=f"Choose another name (make cluster-up NAME=…, or `{COMMAND} up --name …`), or, if you "
        f"no longer need it, delete it with `kind delete cluster --name {name}`.",
    )


def _names_in_use(docker: Engine | None, layout: Layout) -> list[str]:
    """All clusters with a folder of ours, and all on an engine that is ours alone."""
    names = {path.name for path in layout.root.glob("clusters/*")}
    if docker is not None and docker.is_ours:
        names.update(kind.clusters(docker))
    return sorted(names)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a later command must know of a cluster."""

    is_kind: bool
    enforces_network_policy: bool | None


def _create(docker: Engine, name: str, workers: int, layout: Layout) -> None:
    if kind.node_containers(docker, name):
        say(f"The cluster {name} is not whole; it is made anew")
        kind.delete(docker, name, layout)
    image: NodeImage = ensure_node_image(docker, layout)
    ensure_network(docker)
    kind.create(docker, name, workers, image, layout)
    # Pods are forbidden until the controller-manager has made their account.
    command: list[str | Path] = [binaries.kubectl(layout), "--kubeconfig", layout.kubeconfig(name)]
    run([*command, "wait", "--for=create", "serviceaccount/default", "--timeout=60s"])
    # Written last: without it an interrupted cluster is known to be incomplete.
    record = _Record(is_kind=True, enforces_network_policy=image.is_published)
    _write_record(layout, name, record)


def _is_whole(docker: Engine, name: str, layout: Layout) -> bool:
    """Whether the cluster was created to the end and answers; stopped nodes are started again."""
    if not (layout.cluster(name) / "cluster.json").exists():
        return False
    containers = kind.node_containers(docker, name)
    if not containers:
        return False
    running = docker.call("ps", "--format", "{{.Names}}").split()
    if stopped := [node for node in containers if node not in running]:
        with step(f"Start the nodes {', '.join(stopped)} again"):
            docker.call("start", *stopped)
    kind.write_kubeconfig(docker, name, layout)
    # By name: a test may have made Node objects that no kubelet stands behind.
    wait = ["wait", "--for=condition=Ready", *(f"node/{node}" for node in containers)]
    command: list[str | Path] = [binaries.kubectl(layout), "--kubeconfig", layout.kubeconfig(name)]
    deadline = time.monotonic() + _NODE_READY_SECONDS
    while time.monotonic() < deadline:  # an API server that starts refuses connections at first
        if succeeds([*command, *wait, "--timeout=20s"], timeout_seconds=30):
            return True
        time.sleep(1)
    return False


def _prometheus_is_available(cluster: Cluster) -> bool:
    get = ["--namespace", prometheus.NAMESPACE, "get", "deployment", "prometheus"]
    try:
        available = cluster.kubectl(*get, "--output=jsonpath={.status.availableReplicas}")
    except ToolError:
        return False
    return available == "1"


def _running_engine(layout: Layout) -> Engine:
    found = engine.running_engine(layout)
    if found is None:
        raise ToolError("No container engine runs", hint=f"`{COMMAND} up` starts the cluster.")
    return found


def _cluster(name: str, layout: Layout) -> Cluster:
    record = _read_record(layout, name)
    return Cluster(
        name=name,
        kubeconfig=layout.kubeconfig(name),
        kubectl_path=(binaries.kubectl if record.is_kind else binaries.any_kubectl)(layout),
        helm_path=binaries.helm(layout),
        registry=registry.ADDRESS if record.is_kind else os.environ.get("OCTAVO_REGISTRY", ""),
        is_kind=record.is_kind,
        enforces_network_policy=record.enforces_network_policy,
        layout=layout,
    )


def _write_record(layout: Layout, name: str, record: _Record) -> None:
    (layout.cluster(name) / "cluster.json").write_text(json.dumps(asdict(record)))


def _read_record(layout: Layout, name: str) -> _Record:
    try:
        found: Mapping[str, bool | None] = json.loads(
            (layout.cluster(name) / "cluster.json").read_text()
        )
    except (OSError, ValueError):
        return _Record(is_kind=True, enforces_network_policy=None)
    return _Record(found["is_kind"] is not False, found["enforces_network_policy"])
