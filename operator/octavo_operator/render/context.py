"""Context of rendering. What rendering needs to know, gathered: the custom resource, the installation, the
decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.manifest import ChildKey, Manifest, ObjectKey
from octavo_operator.manifest_types import LabelSelectorRequirement
from octavo_operator.names import USER_ID


@dataclass(frozen=True, slots=True)
class Installation:
    """What whoever installed the operator decided for all pods."""

    runtime_image: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    operator_namespace: str
    monitoring_namespaces: tuple[str, ...]
    download_ports: tuple[int, ...]
    """TCP ports that `hf://` downloads may reach: the hub's, a mirror's, a proxy's."""
    user_id: int | None = USER_ID
    """Whom the pods run as, user and group; None where the cluster chooses, as OpenShift does."""
    allowed_runtime_images: tuple[str, ...] = ()
    """Repositories that `spec.runtime.image` may name beside the runtime image's own."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """How replicas are replaced; surge and unavailable are counts of replicas."""

    type: Literal["RollingUpdate", "Recreate"]
    max_surge: int = 1
    max_unavailable: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """The custom resource as far as its children name it."""

    key: ObjectKey
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Those that the user wants on whatever is made for it, but Kubernetes' own, which take a Service off
    the network or mean something else on what is no pod."""

    @property
    def name(self) -> str:
        return self.key.name


@dataclass(frozen=True, slots=True)
class PodContext:
    """Everything that a pod depends on. Nothing that changes while pods run belongs here: another
    value makes another revision."""

    owner: Owner
    spec: LLMDeploymentSpec
    installation: Installation
    is_claim_of_one_node: bool = False
    """Whether one node at a time can mount a claim that `pvc://` names."""
    cache_key: ChildKey | None = None
    """Which of its names the model cache's claim has, where that is known."""
    is_cache_of_one_node: bool | None = None
    """Whether one node at a time can mount that claim; None while there is none, so that the spec says."""
    has_keys_in_environment: bool = False
    """Whether the API key comes by the environment, as the first release gave it."""
    has_silent_download: bool = False
    """Whether the container that downloads answers nobody, as that of earlier releases did."""
    has_port_twice: bool = False
    """Whether the container that downloads declares the ops port, too, as that of earlier releases did."""
    has_version_4_alone: bool = False
    """Whether the pods listen on addresses of version 4 of IP alone, as those of earlier releases did."""

    @property
    def name(self) -> str:
        return self.owner.name


@dataclass(frozen=True, slots=True)
class RenderContext:
    """Everything that a manifest depends on: the pods, and what was decided about them."""

    pods: PodContext
    replicas: int
    replacement: Replacement
    answering_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that set the pods which answer requests apart from others of their replica."""
    own_labels: Sequence[LabelSelectorRequirement] = ()
    """What tells the pods from others with all of their labels."""
    is_held: bool = False
    """Whether pods of another revision are to stay for now."""

    @property
    def owner(self) -> Owner:
        return self.pods.owner

    @property
    def name(self) -> str:
        return self.owner.name

    @property
    def spec(self) -> LLMDeploymentSpec:
        return self.pods.spec

    @property
    def installation(self) -> Installation:
        return self.pods.installation


def owner_of(resource: Manifest) -> Owner:
    """The owner that a live LLMDeployment makes."""
    metadata = resource["metadata"]
    wanted = resource["spec"].get("pods", {}).get("labels", {})
    labels = {key: value for key, value in wanted.items() if not _is_kubernetes_own(key)}
    return Owner(ObjectKey(metadata["namespace"], metadata["name"]), metadata["uid"], labels)


def _is_kubernetes_own(label: str) -> bool:
    """By the domains that Kubernetes reserves for itself."""
    domain = label.rpartition("/")[0]
    return f".{domain}".endswith((".kubernetes.io", ".k8s.io"))
