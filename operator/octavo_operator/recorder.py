"""Recorder of Events: writes to the log and to the cluster what changed about an LLMDeployment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from octavo_operator import events
from octavo_operator.api.conditions import Reason
from octavo_operator.condition_set import Transition
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import EVENT, Manifest

log = structlog.get_logger()

REPEAT_SECONDS = 360.0
"""An Event that comes again within this time is counted and not written anew, as in client-go."""
_MOST_REMEMBERED = 4096


class Recorder:
    """Tells what changed. An Event that cannot be written is not worth a failed pass."""

    def __init__(self, kube: Kube, instance: str, wall_clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance
        self._wall_clock = wall_clock
        self._written: OrderedDict[tuple[str, ...], tuple[datetime, Manifest]] = OrderedDict()
        self._last: datetime | None = None

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
            now = self._moment()
            await self._write(
                events.transition_event(resource, transition, self._instance, now), now
            )

    async def scaled(self, resource: Manifest, note: str) -> None:
        """Tells that the number of replicas was changed, and why."""
        log.info("autoscaling", key=_key(resource), change=note)
        await self._tell(resource, "Autoscaled", note, "Scale", is_warning=False)

    async def failed(self, resource: Manifest, note: str) -> None:
        """Tells of passes that fail where the status cannot."""
        reason = Reason.RECONCILE_FAILED.value
        await self._tell(resource, reason, note, "Reconcile", is_warning=True)

    async def _tell(
        self, resource: Manifest, reason: str, note: str, action: str, *, is_warning: bool
    ) -> None:
        now = self._moment()
        event = events.event(
            resource,
            reason=reason,
            note=note,
            is_warning=is_warning,
            action=action,
            instance=self._instance,
            now=now,
        )
        await self._write(event, now)

    def _moment(self) -> datetime:
        """Now, and later than ever before: Events are named and ordered by their time."""
        now = self._wall_clock()
        if self._last is not None and now <= self._last:
            now = self._last + timedelta(microseconds=1)
        self._last = now
        return now

    async def _write(self, event: Manifest, now: datetime) -> None:
        """A new Event, or one that is counted once more."""
        same = events.sameness(event)
        seen_at, before = self._written.pop(same, (now, None))
        try:
            live = None
            if before is not None and (now - seen_at).total_seconds() <= REPEAT_SECONDS:
                live = await self._again(before, now)
            live = live or await self._kube.create(EVENT, event)
        except KubeError as error:
            log.warning("event not written", reason=event["reason"], error=str(error))
            return
        self._written[same] = (now, live)
        if len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)

    async def _again(self, before: Manifest, now: datetime) -> Manifest | None:
        """The Event, counted once more; None when it is gone, as Events go after an hour."""
        try:
            return await self._kube.replace(EVENT, events.repeated(before, now))
        except KubeError as error:
            if error.is_gone:
                return None
            raise


def _key(resource: Manifest) -> str:
    metadata = resource["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"
