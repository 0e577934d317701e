"""Refusals: what a controller is refused for now, which its condition does not tell. Pure.

A condition keeps the text of the first refusal until nothing is refused any more: a quota that was raised
long ago, while a policy stands in the way by now. Each refusal is an Event as well; those are written when
they come, are counted where they are alike, and go after an hour, in which the controller has tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from octavo_operator.manifest import Manifest
from octavo_operator.pods import time_of
from octavo_operator.workload.refused_pods import is_of_quota

_REASONS = ("FailedCreate", "ReplicaSetCreateError")
_PREFIXES = ("(combined from similar events): ", "Error creating: ")
"""What client-go and the controller put before the API server's answer."""
_BEFORE_ITS_CONDITION = timedelta(seconds=60)
"""How much earlier an Event of a refusal may be than the condition that tells of it: one is written where a
pod is refused, the other when the controller has done what it could, which webhooks may hold up."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer of the API server to a controller."""

    message: str
    since: datetime | None
    """Since when it answers so, or alike."""
    is_latest: bool
    """Whether it is the latest; the first otherwise."""


def refusal_of(maker: Manifest, condition: Manifest, events: Sequence[Manifest]) -> Refusal:
    """What the `maker` of objects, which has this condition, is refused for; `events` are of anything."""
    first, since = condition.get("message", ""), time_of(condition)
    earliest = LONG_AGO if since is None else since - _BEFORE_ITS_CONDITION
    uid = maker["metadata"].get("uid", "")
    mine = [each for each in events if each["involvedObject"].get("uid") == uid]
    told = sorted(
        (each for each in mine if each["reason"] in _REASONS and _seen(each) >= earliest), key=_seen
    )
    if not told:
        return Refusal(first, since, is_latest=False)
    latest = _words(told[-1])
    is_room = is_of_quota(latest)
    alike = list(takewhile(lambda each: is_of_quota(_words(each)) is is_room, reversed(told)))
    is_as_ever = len(alike) == len(told) and is_of_quota(first) is is_room
    return Refusal(latest, since if is_as_ever else _seen(alike[-1]), is_latest=True)


def _words(event: Manifest) -> str:
    message: str = event.get("message", "")
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message


def _seen(event: Manifest) -> datetime:
    """When it was seen last; an Event of the newer API has no `lastTimestamp`."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    text = next((each for each in times if each), None)
    return datetime.fromisoformat(text) if text else LONG_AGO
