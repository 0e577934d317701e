"""Cluster with our images in reach: kind's or the user's own, the same for the demo and the tests."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence

from e2e.cluster import Cluster, adopt_context, ensure_cluster
from e2e.lib.install import ROOT, Helm, Images
from e2e.lib.kubectl import Kubectl
from e2e.monitoring import prometheus
from host.errors import CommandError

OWN_CLUSTER = "own"
"""The name under which a cluster of the user's own is remembered, so that it shadows none of ours."""


@dataclasses.dataclass(frozen=True, slots=True)
class OwnCluster:
    """A cluster that the user names: its context, the registry it pulls from, its Prometheus or "".

    Raises:
        ValueError: without a registry.
    """

    context: str
    registry: str
    prometheus_url: str = ""

    def __post_init__(self) -> None:
        if not self.registry:
            raise ValueError(
                f"context {self.context!r} is your own cluster: say with --registry (or "
                "OCTAVO_REGISTRY) where you can push images and its nodes can pull them, for "
                "example ghcr.io/your-name."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """What the chart is installed into, and with what; `prometheus_url` may be empty."""

    cluster: Cluster
    images: Images
    kubectl: Kubectl
    helm: Helm
    prometheus_url: str


def open_cluster(name: str, workers: int, fake_gpus: int, own: OwnCluster | None) -> Cluster:
    """The user's cluster as it is, or kind's, started when it is not up."""
    if own is not None:
        return adopt_context(OWN_CLUSTER, own.context)
    return ensure_cluster(name, workers, fake_gpus)


def build_command(registry: str = "") -> list[str]:
    """How the images are built and pushed; without a registry, to that of the cluster that is up."""
    return [
        "-m",
        "images.build",
        "operator",
        "runtime",
        "--push",
        *([registry] if registry else []),
    ]


def build_images(registry: str = "") -> Images:
    """Builds what changed and pushes it; progress goes to standard error as it comes.

    Raises:
        CommandError: when the build fails; it has said why.
    """
    command = [sys.executable, *build_command(registry)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(command, "the images were not built: see above")
    return parse_references(done.stdout.splitlines())


def parse_references(lines: Sequence[str]) -> Images:
    """`octavo-operator=REFERENCE` and `octavo-runtime=REFERENCE`, as the builder prints them."""
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    missing = {"octavo-operator", "octavo-runtime"} - found.keys()
    if missing:
        raise ValueError(f"the builder printed no reference for {sorted(missing)}: {lines}")
    return Images(operator=found["octavo-operator"], runtime=found["octavo-runtime"])


def kubectl_of(cluster: Cluster) -> Kubectl:
    return Kubectl(str(cluster.kubectl_path), cluster.kubeconfig)


def environment_of(cluster: Cluster, images: Images, own: OwnCluster | None) -> Environment:
    """The tools that reach the cluster."""
    kubectl = kubectl_of(cluster)
    helm = Helm(str(cluster.helm_path), kubectl)
    url = prometheus.URL if own is None else own.prometheus_url
    return Environment(cluster, images, kubectl, helm, url)


def prepare(name: str, workers: int, fake_gpus: int, own: OwnCluster | None) -> Environment:
    """Cluster up, images built and pushed; nothing is done that is done already."""
    cluster = open_cluster(name, workers, fake_gpus, own)
    return environment_of(cluster, build_images(own.registry if own else ""), own)
