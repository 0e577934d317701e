"""Handlers. Every kopf decorator, and nothing else: handlers turn events into keys.

kopf lists and watches; an event only says "look at this object". The handlers write nothing and
return nothing, so kopf adds no annotation and no finalizer, and a missed event costs no more than
the wait for the next resync.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from octavo_operator.api import v1alpha1
from octavo_operator.children import CHILD_KINDS
from octavo_operator.manifest import (
    ENDPOINT_SLICE,
    LLM_DEPLOYMENT,
    POD,
    Manifest,
    ObjectKey,
    controller_of,
    digest,
)
from octavo_operator.names import OWNER_LABEL

_LABELLED_KINDS = (*CHILD_KINDS, POD, ENDPOINT_SLICE)
WATCHED_KINDS = (LLM_DEPLOYMENT, *_LABELLED_KINDS)
"""All that is followed."""

Enqueue = Callable[[ObjectKey, float], None]
"""Gets a key, and after how many seconds it is to be looked at."""

STATUS_SECONDS = 5.0
"""After which a status that somebody else wrote is looked at: who writes it again at once is written over no
more often than this."""


class SeenGenerations:
    """Tells the events of our own status writes from those of a change by somebody else.

    Who else wrote into the status shows in `managedFields`, or in what is no longer ours there. A write of
    ours that sets other fields than the one before looks the same, and costs a look that finds nothing to do.
    """

    def __init__(self) -> None:
        self._seen: dict[ObjectKey, tuple[tuple[object, ...], str]] = {}

    def seconds_until_look(
        self, key: ObjectKey, resource: Manifest, event_type: str | None
    ) -> float | None:
        """How soon the object is to be looked at: at once when spec, labels, identity or deletion differ from
        what the last event showed; None when nothing does."""
        if event_type == "DELETED":
            self._seen.pop(key, None)
            return 0.0
        metadata = resource["metadata"]
        mark = (
            metadata["uid"],
            metadata.get("generation"),
            metadata.get("deletionTimestamp"),
            tuple(sorted(metadata.get("labels", {}).items())),
        )
        holders = _holders_of_status(metadata)
        is_listed = event_type is None
        before, self._seen[key] = self._seen.get(key), (mark, holders)
        if before is None or before[0] != mark or is_listed:
            return 0.0
        return None if before[1] == holders else STATUS_SECONDS


def _holders_of_status(metadata: Manifest) -> str:
    """Who wrote which fields of it, without the time."""
    entries = metadata.get("managedFields") or ()
    return digest(
        [
            [entry.get("manager"), entry.get("operation"), entry.get("fieldsV1")]
            for entry in entries
            if entry.get("subresource") == "status"
        ]
    )


def owners(child: Manifest) -> set[ObjectKey]:
    """The LLMDeployment that a child's label names, and the one that controls it where somebody wrote another
    name into the label."""
    metadata, controller = child["metadata"], controller_of(child) or {}
    names = {metadata["labels"][OWNER_LABEL]}
    if controller.get("kind") == v1alpha1.KIND:
        names.add(controller["name"])
    return {ObjectKey(metadata["namespace"], name) for name in names}


def register(registry: kopf.OperatorRegistry, enqueue: Enqueue) -> None:
    """Puts a handler for the custom resource and for each kind of child into `registry`."""
    seen = SeenGenerations()

    @kopf.on.event(v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.PLURAL, registry=registry)
    async def on_resource(event: Any, body: Any, **_: Any) -> None:
        metadata = body["metadata"]
        key = ObjectKey(metadata["namespace"], metadata["name"])
        seconds = seen.seconds_until_look(key, body, event["type"])
        if seconds is not None:
            enqueue(key, seconds)

    for kind in _LABELLED_KINDS:
        version = kind.api_version.rpartition("/")[2]

        @kopf.on.event(
            kind.group,
            version,
            kind.plural,
            labels={OWNER_LABEL: kopf.PRESENT},
            registry=registry,
            id=f"on_{kind.plural}",
        )
        async def on_child(body: Any, **_: Any) -> None:
            for key in owners(body):
                enqueue(key, 0.0)


def configure(settings: kopf.OperatorSettings) -> None:
    """What kopf is to do and to leave. Children are filtered by the API server, so a cluster's other
    pods never reach us."""
    for kind in _LABELLED_KINDS:
        version = kind.api_version.rpartition("/")[2]
        settings.watching.label_selectors[kind.group, version, kind.plural] = OWNER_LABEL
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 600
    settings.networking.request_timeout = 60
