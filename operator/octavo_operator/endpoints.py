"""Endpoints. Whether those of the Service are the replicas that answer, all of them and nothing else. Pure.

Kubernetes makes them from the Service's selector and the pods' readiness, within a second or so. Where that
does not happen, requests do not arrive; where others stand among them, requests go astray.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass

from octavo_operator.api.conditions import Reason
from octavo_operator.findings import Finding
from octavo_operator.listing import listed
from octavo_operator.manifest import Manifest, ObjectKey
from octavo_operator.names import HTTP_PORT, HTTP_PORT_NAME
from octavo_operator.pods import PodView
from octavo_operator.render import service
from octavo_operator.replicas import Fleet
from octavo_operator.sightings import Sightings

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROPAGATION_SECONDS = 10.0
"""How long endpoints may take to follow the pods before it is worth a word."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the Service leads to the replicas that answer."""

    missing: tuple[str, ...] = ()
    """Pods that answer and are no endpoints."""
    foreign: tuple[str, ...] = ()
    """Endpoints that are none of our pods, or another port of one: names of pods, addresses."""
    unready: tuple[str, ...] = ()
    """Pods of ours that do not answer and are endpoints."""

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.missing, *self.foreign, *(f"{each} is not ready" for each in self.unready))


@dataclass(frozen=True, slots=True)
class Led:
    """Where the Service leads, and what is to be said of it."""

    problem: Finding | None
    """For too long not to our pods, or not to them alone."""
    notice: Finding | None
    """Pods that carry our label for nothing."""
    unreached: int
    """Replicas that answer and are no endpoints."""
    wait: float | None
    """Seconds until there is more to be said."""


def judge(
    sightings: Sightings,
    key: ObjectKey,
    slices: Iterable[Manifest],
    fleet: Fleet,
    labelled: Sequence[PodView],
    told: Container[str],
    now: float,
) -> Led:
    """`slices` are the Service's, `labelled` all pods with our label; `told` has the reasons that the
    status carries, and `now` is seconds on a steady clock."""
    ours = [pod for replica in fleet.replicas for pod in replica.pods]
    names = {pod.name for pod in ours}
    found = reach(slices, fleet, ours)
    off, off_wait = sightings.lasting(
        key, "endpoints", found.all, now, was_told=Reason.ENDPOINTS_MISMATCH in told
    )
    astray, astray_wait = sightings.lasting(
        key,
        "strays",
        [pod.name for pod in labelled if pod.name not in names],
        now,
        was_told=Reason.STRAY_PODS in told,
    )
    return Led(
        mismatch(service.KEY.name_for(key.name), found, off),
        strays(key.name, astray),
        len(found.missing),
        min((wait for wait in (off_wait, astray_wait) if wait is not None), default=None),
    )


def reach(slices: Iterable[Manifest], fleet: Fleet, pods: Sequence[PodView]) -> Reach:
    """What these EndpointSlices of the Service lack, and what they have that is none of `pods`, or does not
    answer."""
    ours = {pod.name: pod for pod in pods}
    led_to: set[str] = set()
    foreign: set[str] = set()
    for each in slices:
        # kube-proxy takes them by the name of the Service's port.
        named = [port for port in each.get("ports") or () if port.get("name") == HTTP_PORT_NAME]
        numbers = {port.get("port") for port in named}
        for endpoint in each.get("endpoints") or ():
            if endpoint.get("conditions", {}).get("ready") is False:
                continue
            target = endpoint.get("targetRef", {})
            pod = ours.get(target.get("name", "")) if target.get("kind") == "Pod" else None
            if pod is None or not _is_at(pod, endpoint.get("addresses", ())):
                foreign.add(_named(endpoint))
                continue
            foreign |= {f"port {number} of {pod.name}" for number in numbers - {HTTP_PORT}}
            if HTTP_PORT in numbers:
                led_to.add(pod.name)
    answering = {replica.leader.name for replica in fleet.ready}
    return Reach(
        tuple(sorted(answering - led_to)),
        tuple(sorted(foreign)),
        tuple(sorted(led_to - answering)),
    )


def mismatch(service: str, found: Reach, lasting: Collection[str]) -> Finding | None:
    """What is to be said of what has lasted for too long."""
    parts = []
    if missing := [each for each in found.missing if each in lasting]:
        parts.append(f"lack {listed(missing)}, which answer" + ("" if missing[1:] else "s"))
    if foreign := [each for each in found.foreign if each in lasting]:
        parts.append(f"hold {listed(foreign)}, which this LLMDeployment did not make")
    if unready := [each for each in found.unready if f"{each} is not ready" in lasting]:
        parts.append(f"hold {listed(unready)}, which {'do' if unready[1:] else 'does'} not answer")
    if not parts:
        return None
    return Finding(
        Reason.ENDPOINTS_MISMATCH, f"the endpoints of Service {service} {' and '.join(parts)}"
    )


def strays(owner: str, found: Sequence[str]) -> Finding | None:
    """What is to be said of pods that carry our label and are not ours."""
    if not found:
        return None
    carry = "carries" if len(found) == 1 else "carry"
    return Finding(
        Reason.STRAY_PODS,
        f"{listed(found)} {carry} the label octavo.dev/llmdeployment={owner}, but LLMDeployment {owner} "
        "did not make them: they count for nothing and get no requests",
    )


def _is_at(pod: PodView, addresses: Sequence[str]) -> bool:
    """Whether these are the pod's addresses, as far as it has told any."""
    return not pod.addresses or set(addresses) <= set(pod.addresses)


def _named(endpoint: Manifest) -> str:
    target = endpoint.get("targetRef", {})
    addresses = ", ".join(endpoint.get("addresses", ()))
    return f"{target['name']} ({addresses})" if "name" in target else addresses
