"""Small objects for the operator's tests, as a cluster would hold them."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.children import desired
from octavo_operator.manifest import Child, Manifest, ObjectKey
from octavo_operator.pods import staying, views
from octavo_operator.render import Installation, Owner, PodContext, RenderContext, Replacement
from octavo_operator.replicas import Fleet, Replica, fleet
from octavo_operator.workload import workload_of

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
KEY = ObjectKey("team", "llama")
UID = "11111111-2222-3333-4444-555555555555"
INSTALLATION = Installation(
    runtime_image="registry.example/octavo-runtime:1",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=(),
    operator_namespace="octavo-system",
    monitoring_namespaces=("monitoring",),
    download_ports=(443,),
)


def after(seconds: float) -> datetime:
    """NOW plus seconds."""
    return NOW + timedelta(seconds=seconds)


def stamp(moment: datetime) -> str:
    """As Kubernetes writes a time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def spec_dict(**fields: Any) -> dict[str, Any]:
    """A spec as the user writes it; the model is the demo's unless given."""
    return {"model": {"uri": "builtin://demo"}, **copy.deepcopy(fields)}


def spec(**fields: Any) -> LLMDeploymentSpec:
    """The same, parsed."""
    return LLMDeploymentSpec.model_validate(spec_dict(**fields))


def resource(
    *, key: ObjectKey = KEY, uid: str = UID, generation: int = 1, **fields: Any
) -> Manifest:
    """A live LLMDeployment without a status."""
    return {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
            "generation": generation,
        },
        "spec": spec_dict(**fields),
    }


def pod_context(
    *,
    key: ObjectKey = KEY,
    installation: Installation = INSTALLATION,
    is_claim_of_one_node: bool = False,
    **fields: Any,
) -> PodContext:
    """Everything that a pod depends on."""
    return PodContext(Owner(key, UID), spec(**fields), installation, is_claim_of_one_node)


def context(
    *, replicas: int = 1, replacement: Replacement | None = None, **fields: Any
) -> RenderContext:
    """Everything that a manifest depends on."""
    how = replacement or Replacement("RollingUpdate")
    return RenderContext(pod_context(**fields), replicas, how)


def children(**fields: Any) -> list[Child]:
    """Every child of a spec, as reconcile would have it."""
    made = context(**fields)
    workload = workload_of(made.spec)
    return desired(replace(made, own_labels=workload.own_labels), workload)


def seen(pods: list[Manifest], revision: str = "new", now: datetime = NOW) -> Fleet:
    """Live pods as replicas of one pod each."""
    counted = staying(views(pods, "nvidia.com/gpu", now))
    return fleet(revision, [Replica(each.name, (each,)) for each in counted])


def pod(
    name: str = "llama-1",
    *,
    key: ObjectKey = KEY,
    revision: str = "new",
    ready: bool = False,
    statuses: list[dict[str, Any]] | None = None,
    init_statuses: list[dict[str, Any]] | None = None,
    unschedulable: str = "",
    since: datetime = NOW,
    phase: str | None = None,
    leaving: bool = False,
    setting_up: bool = False,
    claims: tuple[str, ...] = (),
    secrets: tuple[str, ...] = (),
) -> Manifest:
    """A live pod: scheduled and running, unless told otherwise."""
    conditions = [
        {"type": "Ready", "status": str(ready), "lastTransitionTime": stamp(since)},
        {
            "type": "PodScheduled",
            "status": "False" if unschedulable else "True",
            "lastTransitionTime": stamp(since),
            **({"reason": "Unschedulable", "message": unschedulable} if unschedulable else {}),
        },
    ]
    if setting_up:
        done = {"type": "PodReadyToStartContainers", "status": "False"}
        conditions.append({**done, "lastTransitionTime": stamp(since)})
        statuses = statuses or [container(waiting=("ContainerCreating", ""))]
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": key.namespace,
        "labels": {
            "octavo.dev/llmdeployment": key.name,
            "octavo.dev/revision": revision,
            "pod-template-hash": revision,
        },
        "ownerReferences": [
            {
                "kind": "ReplicaSet",
                "name": f"{key.name}-{revision}",
                "uid": f"uid-of-{revision}",
                "controller": True,
            }
        ],
    }
    if leaving:
        metadata["deletionTimestamp"] = stamp(since)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "volumes": [
                *({"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims),
                *({"name": each, "secret": {"secretName": each}} for each in secrets),
            ]
        },
        "status": {
            "phase": phase or ("Running" if ready else "Pending"),
            "conditions": conditions,
            "containerStatuses": statuses or [container(running=True)],
            "initContainerStatuses": init_statuses or [],
        },
    }


def container(
    name: str = "octavo",
    *,
    running: bool = False,
    waiting: tuple[str, str] | None = None,
    ended: dict[str, Any] | None = None,
    ended_before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One container's status."""
    state: dict[str, Any] = {}
    if running:
        state = {"running": {"startedAt": stamp(NOW)}}
    if waiting:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    if ended:
        state = {"terminated": ended}
    status: dict[str, Any] = {
        "name": name,
        "image": "registry.example/octavo-runtime:1",
        "restartCount": 1 if ended_before else 0,
        "state": state,
        "lastState": {"terminated": ended_before} if ended_before else {},
    }
    return status


def refused_event(
    maker: Manifest, message: str, at: datetime = NOW, reason: str = "FailedCreate", **fields: Any
) -> Manifest:
    """As the controllers of Deployments and ReplicaSets write one of each refusal."""
    metadata = maker["metadata"]
    said = {"reason": reason, "message": message, "count": 1, "type": "Warning"}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{int(at.timestamp()):x}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {"uid": metadata["uid"], "namespace": metadata["namespace"]},
        "firstTimestamp": stamp(at),
        "lastTimestamp": stamp(at),
        **said,
        **fields,
    }


def replica_set(
    number: int,
    *,
    refusal: str = "",
    since: datetime = NOW,
    made: datetime = NOW,
    owner: str = "mine",
    revision: str = "",
) -> Manifest:
    """The ReplicaSet of a Deployment's rollout of this number, whose pods may be refused."""
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    condition |= {"message": refusal, "lastTransitionTime": stamp(since)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{KEY.name}-{number}",
            "namespace": KEY.namespace,
            "labels": {"octavo.dev/llmdeployment": KEY.name},
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
            "creationTimestamp": stamp(made),
            "ownerReferences": [
                {"kind": "Deployment", "name": KEY.name, "uid": owner, "controller": True}
            ],
        },
        "spec": {"template": {"metadata": {"labels": {"octavo.dev/revision": revision}}}},
        "status": {"conditions": [condition] if refusal else []},
    }
