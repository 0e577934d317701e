"""Kubernetes objects as the API sends them: JSON objects, with the few readers that all modules need."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object as JSON; the only place where `Any` stands for "whatever the API says"."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API server keeps it."""

    api_version: str
    kind: str
    plural: str

    @property
    def collection(self) -> str:
        """`/api/v1` or `/apis/<group>/<version>`."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        return f"{prefix}/{self.api_version}"

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of a collection or, with a name, of one object."""
        path = self.collection
        if namespace is not None:
            path += f"/namespaces/{namespace}"
        path += f"/{self.plural}"
        if name is not None:
            path += f"/{name}"
        return f"{path}/{subresource}" if subresource else path


LLM_DEPLOYMENT = Kind("octavo.dev/v1alpha1", "LLMDeployment", "llmdeployments")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

CHILD_KINDS: tuple[Kind, ...] = (
    SERVICE_ACCOUNT,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    SERVICE,
    POD_DISRUPTION_BUDGET,
    DEPLOYMENT,
)
"""Every kind that an LLMDeployment may own, in the order in which they are applied: what a pod needs
comes before the pods."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names one namespaced object of a known kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def kind_of(manifest: Manifest) -> Kind:
    """The child kind of a manifest. Raises LookupError for a kind that the operator never makes."""
    for kind in CHILD_KINDS:
        if kind.kind == manifest["kind"] and kind.api_version == manifest["apiVersion"]:
            return kind
    raise LookupError(f"{manifest['apiVersion']} {manifest['kind']} is not a kind of child")


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object's controller is the object with this uid."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == uid and owner.get("controller") for owner in owners)


def digest(value: object, length: int = 10) -> str:
    """A short stable hash of JSON: the same content gives the same text in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
