"""Pods as the status needs them: which of them answer, and why one does not start. Pure.

The first thing that stands in a pod's way becomes a `Finding`: a reason with the kubelet's, the
scheduler's or the runtime's own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from octavo_operator.admission import admitted
from octavo_operator.api.conditions import RUNTIME_REASONS, Reason
from octavo_operator.crashes import crash
from octavo_operator.findings import Finding, shortened
from octavo_operator.manifest import Manifest, controller_of
from octavo_operator.names import (
    FETCH_CONTAINER,
    FETCH_DRAFT_CONTAINER,
    REVISION_LABEL,
    SERVE_CONTAINER,
    STARTING_CONTAINERS,
)
from octavo_operator.runtime_words import (
    DRAFT_FIELD,
    Written,
    in_words_of_spec,
    of_a_missing_claim,
    of_an_unbound_claim,
    written_in,
)

SETUP_PATIENCE_SECONDS = 20.0
"""How long a node may take to mount a pod's volumes and make its sandbox before it is worth a word."""

_PULL_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_PHASE_TEXTS = {
    FETCH_CONTAINER: "downloading the model",
    FETCH_DRAFT_CONTAINER: "downloading the draft model",
    SERVE_CONTAINER: "loading the model",
}
_SHORTAGE = re.compile(
    "Insufficient |Too many pods|max volume count|ReadWriteOncePod|anti-affinity|topology spread|free ports"
)
"""What the scheduler says of nodes that would fit if fewer pods ran there; admission may keep pods apart."""
_REFUSALS = {"UnexpectedAdmissionError", "TopologyAffinityError", "ResourceAllocationError"}
"""What nodes say of pods that they do not run, beside `OutOfcpu` and its like."""
_PRIORITY = (
    Reason.IMAGE_PULL_FAILED,
    Reason.SECRET_NOT_FOUND,
    Reason.CONTAINER_CONFIG_INVALID,
    *sorted(RUNTIME_REASONS),
    Reason.CRASHING,
    Reason.INSUFFICIENT_GPU,
    Reason.VOLUME_UNAVAILABLE,
    Reason.SANDBOX_UNAVAILABLE,
    Reason.UNSCHEDULABLE,
)
REASONS = frozenset(_PRIORITY)
"""What may be said of a pod."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the container by which a pod starts."""

    container: str
    identity: str
    """Differs from that of every other run."""
    address: str
    """The pod's."""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod as the status and the autoscaler need it."""

    name: str
    labels: Mapping[str, str]
    controller: tuple[str, str] | None
    """Kind and name of what made it; None when a person did, though a ReplicaSet may have adopted it."""
    addresses: tuple[str, ...]
    """Its own, once it has any."""
    is_ready: bool
    is_leaving: bool
    gpus: int
    """Those that it holds or waits for, as its containers ask for them; of a pod that is over none."""
    phase_text: str
    """What the pod is doing while it is not ready: "being scheduled", "downloading the model" …"""
    finding: Finding | None
    ready_since: datetime | None
    """Since when it answers; None while it does not."""
    setup_since: datetime | None
    """Since when the node mounts its volumes and makes its sandbox; None when it is done with that
    or has not begun."""
    run: Run | None = None
    """Of the container that downloads or serves; None while none runs, or the pod has no address."""
    image: str = ""
    """The digest of what serves; empty while none is there."""
    made_at: datetime | None = None
    refused: str = ""
    """Why its node would not run it; empty where it did, or has not been asked."""
    priority: int = 0
    """As its class has it: the scheduler takes pods of a lower one away for it."""
    is_preempted: bool = False
    """Whether the scheduler took it away for one of a higher priority."""
    admitted: Mapping[str, str] = field(default_factory=dict)
    """What the cluster's admission may have set."""
    progress: str = ""
    """How far it has come with that, where it told; it says more than `phase_text`."""

    @property
    def revision(self) -> str:
        """The hash of the template that it was made from; empty when it does not say."""
        return self.labels.get(REVISION_LABEL, "")


def gravest(findings: Iterable[Finding | None]) -> Finding | None:
    """The one that the others may follow from; None when there is none."""
    found = [each for each in findings if each is not None]
    return min(found, key=lambda each: _PRIORITY.index(each.reason), default=None)


def views(pods: Iterable[Manifest], gpu_resource: str, now: datetime) -> list[PodView]:
    """All of them, in the order of their names."""
    return sorted((view(pod, gpu_resource, now) for pod in pods), key=lambda each: each.name)


def staying(pods: Iterable[PodView]) -> list[PodView]:
    """Those that count, not on their way out and not finished."""
    return [each for each in pods if not each.is_leaving]


def view(pod: Manifest, gpu_resource: str, now: datetime) -> PodView:
    """What a pod's status says at this time."""
    status = pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    is_ready = conditions.get("Ready", {}).get("status") == "True"
    statuses = _container_statuses(status)
    # Known only where the kubelet reports it; without, a slow pull of an image would look the same.
    setup_since = _since(conditions.get("PodReadyToStartContainers", {}), "False")
    finding = None
    if not is_ready:
        finding = _finding(conditions, statuses, gpu_resource, written_in(pod))
        finding = finding or _setup_finding(pod, setup_since, now)
    names = [each.get("name") for each in pod.get("spec", {}).get("containers", ())]
    # A ReplicaSet adopts whatever has its labels.
    controller = controller_of(pod) if not names or SERVE_CONTAINER in names else None
    addresses = tuple(each["ip"] for each in status.get("podIPs", ()))
    is_over = status.get("phase") in ("Failed", "Succeeded")
    return PodView(
        name=pod["metadata"]["name"],
        labels=pod["metadata"].get("labels", {}),
        controller=(controller["kind"], controller["name"]) if controller else None,
        addresses=addresses,
        is_ready=is_ready,
        # A finished pod (evicted, node shut down) stays visible but will be replaced.
        is_leaving="deletionTimestamp" in pod["metadata"] or is_over,
        gpus=0 if is_over else _gpus(pod, gpu_resource),
        phase_text=_phase_text(conditions, statuses),
        finding=finding,
        ready_since=_since(conditions.get("Ready", {}), "True"),
        setup_since=None if is_ready else setup_since,
        run=_run(pod, statuses, addresses),
        image=statuses.get(SERVE_CONTAINER, {}).get("imageID", "").rpartition("@")[2],
        made_at=_moment(pod["metadata"].get("creationTimestamp")),
        refused=_refused(status),
        priority=int(pod.get("spec", {}).get("priority", 0)),
        is_preempted=_is_preempted(conditions.get("DisruptionTarget", {})),
        admitted=admitted(pod),
    )


def _is_preempted(disruption: dict[str, Any]) -> bool:
    return (disruption.get("status"), disruption.get("reason")) == ("True", "PreemptionByScheduler")


def _refused(status: Manifest) -> str:
    reason = status.get("reason", "")
    is_refusal = reason.startswith("OutOf") or reason in _REFUSALS
    if status.get("phase") != "Failed" or not is_refusal:
        return ""
    return f"{reason}: {status.get('message', '')}"


def _gpus(pod: Manifest, resource: str) -> int:
    """As the scheduler counts: the containers' together, or what one that runs before them takes."""
    containers = pod.get("spec", {}).get("containers", ())
    before = pod.get("spec", {}).get("initContainers", ())
    # An extended resource's request is its limit, and a whole number.
    counts = [
        [int(each.get("resources", {}).get("limits", {}).get(resource, 0)) for each in some]
        for some in (containers, before)
    ]
    return max(sum(counts[0]), *counts[1], 0)


def _container_statuses(status: Manifest) -> dict[str, Manifest]:
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return {each["name"]: each for each in every}


def _phase_text(conditions: dict[str, Manifest], statuses: dict[str, Manifest]) -> str:
    if conditions.get("PodScheduled", {}).get("status") != "True":
        return "being scheduled"
    running = _running(statuses)
    return (
        "pulling the image or starting the container" if running is None else _PHASE_TEXTS[running]
    )


def _running(statuses: dict[str, Manifest]) -> str | None:
    """The container that downloads or serves now."""
    return next(
        (
            each
            for each in STARTING_CONTAINERS
            if "running" in statuses.get(each, {}).get("state", {})
        ),
        None,
    )


def _run(pod: Manifest, statuses: dict[str, Manifest], addresses: tuple[str, ...]) -> Run | None:
    name = _running(statuses)
    if name is None or not addresses:
        return None
    # Pods of a group have their names again; containers are never called as one was before.
    identity = f"{pod['metadata'].get('uid', '')}/{statuses[name].get('containerID', '')}"
    return Run(name, identity, addresses[0])


def _since(condition: dict[str, Any], status: str) -> datetime | None:
    """Since when the condition has this status; None when it has another."""
    return time_of(condition) if condition.get("status") == status else None


def time_of(condition: dict[str, Any]) -> datetime | None:
    """When the condition changed last; None where it does not say."""
    return _moment(condition.get("lastTransitionTime"))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _finding(
    conditions: dict[str, Manifest],
    statuses: dict[str, Manifest],
    gpu_resource: str,
    written: Written,
) -> Finding | None:
    for name in STARTING_CONTAINERS:
        if name in statuses and (found := _container_finding(name, statuses[name], written)):
            return found if name != FETCH_DRAFT_CONTAINER else _of_the_draft(found)
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") != "False":
        return None
    match scheduled.get("reason"):
        case "Unschedulable":
            return _scheduling_finding(scheduled, gpu_resource, written.claims)
        case "SchedulingGated":
            # Who queues pods (Kueue) opens the gate when others leave room.
            message = f"the pod waits at a scheduling gate: {scheduled.get('message', '')}"
            since = time_of(scheduled)
            return Finding(Reason.UNSCHEDULABLE, shortened(message), since, is_shortage=True)
    return None


def _of_the_draft(found: Finding) -> Finding:
    """Two models are fetched: a message says that it is not the served one."""
    return replace(found, message=shortened(f"{DRAFT_FIELD}{found.message}"))


def _container_finding(name: str, status: dict[str, Any], written: Written) -> Finding | None:
    waiting = status.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), shortened(waiting.get("message", ""))
    if reason in _PULL_REASONS:
        return Finding(Reason.IMAGE_PULL_FAILED, f"{status['image']}: {message or reason}")
    if reason in _CONFIG_REASONS:
        if "secret" in message.lower():
            return Finding(Reason.SECRET_NOT_FOUND, message)
        return Finding(Reason.CONTAINER_CONFIG_INVALID, f"{reason}: {message}")
    # A container that is starting again has not proved anything yet: how it ended last still holds.
    ended = status.get("state", {}).get("terminated")
    if ended and ended.get("exitCode") == 0:
        return None
    for end in (ended, status.get("lastState", {}).get("terminated")):
        if end and end.get("exitCode", 0) != 0:
            return _ended(name, end, written)
    return None


def _ended(name: str, end: dict[str, Any], written: Written) -> Finding:
    message = end.get("message", "").strip()
    if end.get("reason") == "OOMKilled":
        remedy = (
            "raise spec.resources.memory or lower spec.engine.kvCacheMemory"
            if name == SERVE_CONTAINER
            else "raise spec.resources.download.memory"
        )
        return Finding(
            Reason.OUT_OF_MEMORY, f"the container was killed at its memory limit; {remedy}"
        )
    if told := _told_by_runtime(message, written):
        return told
    return Finding(Reason.CRASHING, shortened(crash(end["exitCode"], message)))


def _told_by_runtime(message: str, written: Written) -> Finding | None:
    try:
        told = json.loads(message)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    for reason in RUNTIME_REASONS:
        if told.get("reason") == reason.value:
            words = in_words_of_spec(str(told.get("message", "")), written)
            return Finding(reason, shortened(words))
    return None


def _scheduling_finding(
    condition: dict[str, Any], gpu_resource: str, claims: Mapping[str, str]
) -> Finding:
    message = condition.get("message", "")
    if f"Insufficient {gpu_resource}" in message:
        reason = Reason.INSUFFICIENT_GPU
    elif any(each in message.lower() for each in ("volume", "storageclass")):
        reason = Reason.VOLUME_UNAVAILABLE
    else:
        reason = Reason.UNSCHEDULABLE
    is_shortage = _SHORTAGE.search(message) is not None
    words = of_a_missing_claim(message, claims) or of_an_unbound_claim(message, claims) or message
    return Finding(reason, shortened(words), time_of(condition), is_shortage)


def _setup_finding(pod: Manifest, since: datetime | None, now: datetime) -> Finding | None:
    """The kubelet gives its reason in Events alone, and of pods the operator reads none."""
    if since is None or (now - since).total_seconds() < SETUP_PATIENCE_SECONDS:
        return None
    metadata = pod["metadata"]
    look = f"the Events of `kubectl -n {metadata['namespace']} describe pod {metadata['name']}` say why"
    volumes = pod.get("spec", {}).get("volumes", ())
    claims = [
        f"claim {volume['persistentVolumeClaim']['claimName']}"
        for volume in volumes
        if "persistentVolumeClaim" in volume
    ]
    secrets = _named("Secret", "secret", "secretName", volumes)
    maps = _named("ConfigMap", "configMap", "name", volumes)
    mounted = claims + secrets + maps
    if not mounted:
        return Finding(
            Reason.SANDBOX_UNAVAILABLE,
            f"its node has not set pod {metadata['name']} up (network, RuntimeClass, volumes); {look}",
        )
    reason = Reason.SECRET_NOT_FOUND if secrets else Reason.SANDBOX_UNAVAILABLE
    return Finding(
        Reason.VOLUME_UNAVAILABLE if claims else reason,
        f"its node has not mounted {', '.join(mounted)} in pod {metadata['name']}, or has not "
        f"set the pod up otherwise; {look}",
    )


def _named(kind: str, source: str, name: str, volumes: Iterable[Manifest]) -> list[str]:
    """What must be there before the node mounts these volumes: the objects, and the keys in them that are
    asked for. A projected volume has several sources, whose objects are all called `name`."""
    found = [(each[source], name) for each in volumes if source in each]
    for volume in volumes:
        sources = volume.get("projected", {}).get("sources", ())
        found += [(each[source], "name") for each in sources if source in each]
    return [_with_keys(kind, each, name) for each, name in found if not each.get("optional")]


def _with_keys(kind: str, source: Mapping[str, Any], name: str) -> str:
    keys = [item["key"] for item in source.get("items", ())]
    text = f"{kind} {source[name]}"
    match keys:
        case []:
            return text
        case [key]:
            return f"{text} with its key {key}"
        case _:
            return f"{text} with its keys {', '.join(keys)}"
