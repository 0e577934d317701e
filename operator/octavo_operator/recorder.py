"""Recorder of Events: writes to the log and to the cluster what changed about an LLMDeployment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from octavo_operator import events
from octavo_operator.api.conditions import Reason
from octavo_operator.condition_set import Transition
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import EVENT, Manifest

log = structlog.get_logger()

REPEAT_SECONDS = 360.0
"""An Event that comes again within this time is counted and not written anew, as in client-go."""
SIMILAR_SECONDS = 600.0
MOST_SIMILAR = 10
"""So many Events that differ in their message alone are written, each within this time of the one before;
further ones are one that is counted, as in client-go."""
_MOST_REMEMBERED = 4096
_MOMENT = timedelta(seconds=1)
"""A clock that is further behind than this was set back: Events with times to come would lead the list until
it gets there."""


@dataclass(slots=True)
class _Similar:
    """Events that differ in their message alone."""

    last: datetime
    messages: set[str] = field(default_factory=set)


class Recorder:
    """Tells what changed. An Event that cannot be written is not worth a failed pass."""

    def __init__(self, kube: Kube, instance: str, wall_clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance
        self._wall_clock = wall_clock
        self._written: OrderedDict[tuple[str, ...], tuple[datetime, Manifest]] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
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
        """Now, and later than before: Events are named and ordered by their time."""
        now = self._wall_clock()
        if self._last is not None and now <= self._last < now + _MOMENT:
            now = self._last + timedelta(microseconds=1)
        self._last = now
        return now

    async def _write(self, event: Manifest, now: datetime) -> None:
        """A new Event, or one that is counted once more."""
        same = events.sameness(event)
        if self._is_one_of_many(same, now):
            event, same = events.combined(event), same[:-1]
        seen_at, before = self._written.pop(same, (now, None))
        try:
            live = None
            if before is not None and _is_within(now, seen_at, REPEAT_SECONDS):
                live = await self._again(before, str(event["message"]), now)
            live = live or await self._kube.create(EVENT, event)
        except KubeError as error:
            log.warning("event not written", reason=event["reason"], error=str(error))
            return
        self._written[same] = (now, live)
        _forget_oldest(self._written)

    def _is_one_of_many(self, same: tuple[str, ...], now: datetime) -> bool:
        """Whether so many were told that differ from it in their message alone, and it is none of those."""
        *others, message = same
        similar = self._similar.pop(tuple(others), None)
        if similar is None or not _is_within(now, similar.last, SIMILAR_SECONDS):
            similar = _Similar(now)
        similar.last = now
        if len(similar.messages) < MOST_SIMILAR:
            similar.messages.add(message)
        self._similar[tuple(others)] = similar
        _forget_oldest(self._similar)
        return message not in similar.messages

    async def _again(self, before: Manifest, message: str, now: datetime) -> Manifest | None:
        """The Event, counted once more; None when it is gone, as Events go after an hour."""
        try:
            return await self._kube.replace(EVENT, events.repeated(before, message, now))
        except KubeError as error:
            if error.is_gone:
                return None
            raise


def _is_within(now: datetime, before: datetime, seconds: float) -> bool:
    return 0 <= (now - before).total_seconds() <= seconds


def _forget_oldest(remembered: OrderedDict[tuple[str, ...], Any]) -> None:
    if len(remembered) > _MOST_REMEMBERED:
        remembered.popitem(last=False)


def _key(resource: Manifest) -> str:
    metadata = resource["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"
