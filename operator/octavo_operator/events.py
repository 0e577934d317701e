"""Kubernetes Events about an LLMDeployment: one for each thing that changed, none for what stays.

Named and dated as client-go does it, so that `kubectl describe` shows them in the order of time: its
sorting knows the deprecated fields alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, datetime

from octavo_operator.api import v1alpha1
from octavo_operator.api.conditions import Reason
from octavo_operator.manifest import EVENT, Manifest
from octavo_operator.status import Transition

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
    """One Event regarding `resource`. Two of one object must not be of one microsecond."""
    metadata = resource["metadata"]
    moment = now.astimezone(UTC)
    seconds = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    microseconds = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "name": f"{metadata['name']}.{microseconds * 1000:x}",
            "namespace": metadata["namespace"],
        },
        "eventTime": _exact(moment),
        "deprecatedFirstTimestamp": seconds,
        "deprecatedLastTimestamp": seconds,
        "deprecatedCount": 1,
        "regarding": {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning" if is_warning else "Normal",
        "reason": reason,
        "note": note[:_NOTE_LIMIT],
        "action": action,
        "reportingController": "octavo.dev/operator",
        "reportingInstance": instance[:128],
    }


def repeated(event: Manifest, now: datetime) -> Manifest:
    """The same Event once more: a series, of which the API server lets nothing else change."""
    again = copy.deepcopy(event)
    count = event.get("series", {}).get("count", 1) + 1
    again["series"] = {"count": count, "lastObservedTime": _exact(now.astimezone(UTC))}
    return again


def sameness(event: Manifest) -> tuple[str, ...]:
    """What two Events have in common that are one, seen twice."""
    return (
        event["regarding"]["uid"],
        *(event[key] for key in ("type", "reason", "action", "note")),
    )


def _exact(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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
