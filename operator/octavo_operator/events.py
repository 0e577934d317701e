"""Kubernetes Events about an LLMDeployment: one for each thing that changed, none for what stays."""

from __future__ import annotations

import uuid
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
    """One Event regarding `resource`."""
    metadata = resource["metadata"]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            "namespace": metadata["namespace"],
        },
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
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
