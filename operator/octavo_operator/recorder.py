"""Recorder of Events: writes to the log and to the cluster what changed about an LLMDeployment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from octavo_operator import events
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import EVENT, Manifest
from octavo_operator.status import Transition

log = structlog.get_logger()


class Recorder:
    """Tells what changed. An Event that cannot be written is not worth a failed pass."""

    def __init__(self, kube: Kube, instance: str, wall_clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance
        self._wall_clock = wall_clock

    async def transitions(self, resource: Manifest, transitions: Iterable[Transition]) -> None:
        """Tells those of the conditions' transitions that are worth an Event."""
        for transition in events.news(transitions):
            log.info(
                "condition",
                key=_key(resource),
                type=transition.type.value,
                status=transition.status.value,
                reason=transition.reason.value,
                message=transition.message,
            )
            now = self._wall_clock()
            await self._write(events.transition_event(resource, transition, self._instance, now))

    async def scaled(self, resource: Manifest, note: str) -> None:
        """Tells that the number of replicas was changed, and why."""
        log.info("autoscaling", key=_key(resource), change=note)
        await self._write(
            events.event(
                resource,
                reason="Autoscaled",
                note=note,
                is_warning=False,
                action="Scale",
                instance=self._instance,
                now=self._wall_clock(),
            )
        )

    async def _write(self, event: Manifest) -> None:
        try:
            await self._kube.create(EVENT, event)
        except KubeError as error:
            log.warning("event not written", reason=event["reason"], error=str(error))


def _key(resource: Manifest) -> str:
    metadata = resource["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"
