"""Installs the chart into a cluster, as the demo and the tests both need it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from e2e.lib.kubectl import Kubectl, Object
from host.errors import readable
from host.process import run

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "octavo"
RELEASE = "octavo"
OPERATOR_NAMESPACE = "octavo-system"
OPERATOR = "octavo-operator"


@dataclasses.dataclass(frozen=True, slots=True)
class Images:
    """References as pods name them."""

    operator: str
    runtime: str


def restricted_namespace(name: str) -> Object:
    """A namespace that admits no pod below the restricted Pod Security Standard."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            },
        },
    }


def split_reference(reference: str) -> tuple[str, str]:
    """`host:port/name:tag` or `…@sha256:…` as repository and tag (or digest)."""
    repository, at, digest = reference.partition("@")
    if at:
        return repository, digest
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        raise ValueError(f"{reference!r} has neither a tag nor a digest")
    return repository, tag


def values(images: Images, prometheus_url: str) -> list[str]:
    """The `--set` flags of the chart for these images."""
    flags = []
    for prefix, reference in (("image", images.operator), ("runtime.image", images.runtime)):
        repository, tag = split_reference(reference)
        flags += [
            f"--set-string={prefix}.repository={repository}",
            f"--set-string={prefix}.tag={tag}",
        ]
    return [*flags, f"--set-string=prometheus.url={prometheus_url}"]


@dataclasses.dataclass(frozen=True, slots=True)
class Helm:
    """Helm against the cluster of a `Kubectl`."""

    binary: str
    kubectl: Kubectl

    def command(self, *args: str) -> list[str]:
        return [self.binary, f"--kubeconfig={self.kubectl.kubeconfig}", *args]

    def typed(self, *args: str) -> str:
        return readable(["helm", *args])

    def run(self, *args: str, timeout_seconds: float = 180) -> str:
        return run(self.command(*args), timeout_seconds=timeout_seconds)


def upgrade_arguments(images: Images, prometheus_url: str) -> list[str]:
    """`helm upgrade --install …`: installs, or brings an installation up to date; safe to repeat."""
    return [
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        f"--namespace={OPERATOR_NAMESPACE}",
        *values(images, prometheus_url),
        "--wait",
        "--timeout=2m",
    ]
