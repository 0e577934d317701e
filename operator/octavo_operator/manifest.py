"""Kubernetes objects as the API sends them: JSON objects, with the few readers that all modules need."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object as JSON; the only place where `Any` stands for "whatever the API says"."""


FIELD_MANAGER = "octavo-operator"
"""Who we are in `managedFields`."""


@dataclass(frozen=True, slots=True, order=True)
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
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD = Kind("v1", "Pod", "pods")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names one namespaced object of a known kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(manifest: Manifest) -> ObjectKey:
    """The key of a live object."""
    return ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True, order=True)
class ChildKey:
    """Which of its children an LLMDeployment means: a kind, and a role where a kind has several."""

    kind: Kind
    role: str = ""
    """What it is for, and what follows the owner's name in its own; empty for the kind's first."""

    def name_for(self, owner: str) -> str:
        """The one name that this child of `owner` has, or would have."""
        return f"{owner}-{self.role}" if self.role else owner

    def __str__(self) -> str:
        return f"{self.kind.kind} ({self.role})" if self.role else self.kind.kind


@dataclass(frozen=True, slots=True)
class Child:
    """A child as it is to be."""

    key: ChildKey
    manifest: Manifest


def current_conditions(manifest: Manifest) -> list[Manifest]:
    """The conditions of a live object, as far as they speak about the spec that it has now: until its
    controller has seen a new generation, what it says is about the former one."""
    status = manifest.get("status", {})
    generation = manifest["metadata"].get("generation", 0)
    if status.get("observedGeneration", generation) < generation:
        return []
    return list(status.get("conditions", ()))


def controller_of(manifest: Manifest) -> Manifest | None:
    """The owner reference of the object's controller, if it has one."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return next((owner for owner in owners if owner.get("controller")), None)


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object's controller is the object with this uid."""
    controller = controller_of(manifest)
    return controller is not None and controller["uid"] == uid


def writers(manifest: Manifest) -> list[str]:
    """Who else wrote into the object, as `managedFields` tell: the names that they gave themselves."""
    return sorted(
        {
            str(entry.get("manager", ""))
            for entry in manifest["metadata"].get("managedFields", ())
            if entry.get("manager") != FIELD_MANAGER and not entry.get("subresource")
        }
    )


def digest(value: object, length: int = 10) -> str:
    """A short stable hash of JSON: the same content gives the same text in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
