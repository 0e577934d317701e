"""Kubernetes Events about an LLMDeployment: one for each thing that changed, none for what stays.

Of the core group, named and dated as client-go does it: `kubectl describe` sorts by `lastTimestamp`,
which `events.k8s.io` refuses to be given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, datetime

from octavo_operator.api import v1alpha1
from octavo_operator.api.conditions import Reason
from octavo_operator.condition_set import Transition
from octavo_operator.manifest import EVENT, Manifest

_NOTE_LIMIT = 1024


def news(transitions: Iterable[Transition]) -> list[Transition]:
    """The transitions worth an Event, each reason once: several conditions may share a cause."""
    by_reason: dict[Reason, Transition] = {}
    for transition in transitions:
        if transition.is_news and (transition.reason not in by_reason or transition.is_warning):
            by_reason[transition.reason] = transition
    return list(by_reason.values())


def event(
    resource: Manifest,
    *,
    reason: str,
    note: str,
    is_warning: bool,
    action: str,
    instance: str,
    now: datetime,
) -> Manifest:
    """One Event about `resource`. Two of one object must not be of one microsecond."""
    metadata = resource["metadata"]
    moment = now.astimezone(UTC)
    microseconds = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "name": f"{metadata['name']}.{microseconds * 1000:x}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "firstTimestamp": _seconds(moment),
        "lastTimestamp": _seconds(moment),
        "count": 1,
        "type": "Warning" if is_warning else "Normal",
        "reason": reason,
        "message": note[:_NOTE_LIMIT],
        "action": action,
        "source": {"component": "octavo-operator"},
        "reportingComponent": "octavo.dev/operator",
        "reportingInstance": instance[:128],
    }


def repeated(event: Manifest, message: str, now: datetime) -> Manifest:
    """The same Event once more; one that stands for several has the last one's message."""
    again = copy.deepcopy(event)
    again["message"] = message
    again["count"] = event["count"] + 1
    again["lastTimestamp"] = _seconds(now.astimezone(UTC))
    return again


def sameness(event: Manifest) -> tuple[str, ...]:
    """What two Events have in common that are one, seen twice."""
    same = (event[key] for key in ("type", "reason", "action", "message"))
    return (event["involvedObject"]["uid"], *same)


def combined(event: Manifest) -> Manifest:
    """One that stands for several that differ in their message alone."""
    return {**event, "message": f"(combined from similar events): {event['message']}"[:_NOTE_LIMIT]}


def _seconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def transition_event(
    resource: Manifest, transition: Transition, instance: str, now: datetime
) -> Manifest:
    """The Event that tells of a transition."""
    note = transition.message or transition.reason.meaning
    return event(
        resource,
        reason=transition.reason.value,
        note=f"{transition.type.value}={transition.status.value}: {note}",
        is_warning=transition.is_warning,
        action="Reconcile",
        instance=instance,
        now=now,
    )
