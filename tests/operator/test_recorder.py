from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.condition_set import Transition
from octavo_operator.manifest import EVENT, Manifest
from octavo_operator.recorder import MOST_SIMILAR, REPEAT_SECONDS, Recorder
from tests.support.operator.builders import KEY, NOW, after, resource
from tests.support.operator.fake_kube import FakeKube


class World:
    """A recorder over a cluster in memory."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.now: datetime = NOW
        self.recorder = Recorder(self.kube, "test", lambda: self.now)

    def tell(self, *reasons: Reason, why: str = "why") -> None:
        told = [
            Transition(ConditionType.READY, ConditionStatus.FALSE, reason, why, is_first=False)
            for reason in reasons
        ]
        asyncio.run(self.recorder.transitions(resource(), told))

    def events(self) -> list[Manifest]:
        found = [each for (kind, *_), each in self.kube.objects.items() if kind == EVENT.kind]
        return sorted(found, key=lambda each: str(each["metadata"]["name"]))


def test_events_of_one_moment_keep_their_order_by_name() -> None:
    world = World()
    world.tell(Reason.STARTING, Reason.SCALING_UP, Reason.ROLLING_OUT)
    names: list[Any] = [each["reason"] for each in world.events()]
    assert names == ["Starting", "ScalingUp", "RollingOut"]
    assert world.events()[0]["metadata"]["name"].startswith(f"{KEY.name}.")


def test_an_event_has_the_times_that_kubectl_sorts_by() -> None:
    world = World()
    world.tell(Reason.STARTING)
    (event,) = world.events()
    assert event["firstTimestamp"] == "2026-05-04T12:00:00Z"
    assert event["lastTimestamp"] == "2026-05-04T12:00:00Z"


def test_what_comes_again_soon_is_one_event_that_is_counted() -> None:
    world = World()
    world.tell(Reason.STARTING)
    for seconds in (60, 120):
        world.now = after(seconds)
        world.tell(Reason.STARTING)
    (event,) = world.events()
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-05-04T12:00:00Z"
    assert event["lastTimestamp"] == "2026-05-04T12:02:00Z"
    world.now = after(121 + REPEAT_SECONDS)
    world.tell(Reason.STARTING)
    assert len(world.events()) == 2


def test_a_count_whose_event_expired_begins_anew() -> None:
    world = World()
    world.tell(Reason.STARTING)
    (event,) = world.events()
    world.kube.remove(EVENT, KEY.namespace, event["metadata"]["name"])
    world.now = after(60)
    world.tell(Reason.STARTING)
    (again,) = world.events()
    assert again["count"] == 1


def test_a_clock_that_was_set_back_is_followed() -> None:
    """Events of the hour to come would lead every list, with ages below nothing."""
    world = World()
    world.now = after(3600)
    world.tell(Reason.STARTING)
    world.now = NOW
    world.tell(Reason.STARTING, Reason.ROLLING_OUT)
    again = [each for each in world.events() if each["lastTimestamp"] == "2026-05-04T12:00:00Z"]
    assert [each["reason"] for each in again] == ["Starting", "RollingOut"]
    assert all(each["firstTimestamp"] <= each["lastTimestamp"] for each in world.events())


def test_many_that_differ_in_their_message_are_one_that_is_counted() -> None:
    """As those of a condition that flaps, and says each time what it is about."""
    world = World()
    for turn in range(MOST_SIMILAR + 5):
        world.now = after(30 * turn)
        world.tell(Reason.STARTING, why=f"{turn} of 99")
    *first, last = world.events()
    assert len(first) == MOST_SIMILAR
    assert last["count"] == 5
    assert last["message"] == "(combined from similar events): Ready=False: 14 of 99"
    assert last["lastTimestamp"] == "2026-05-04T12:07:00Z"
    world.tell(Reason.STARTING, why="3 of 99")
    assert sum(each["count"] for each in world.events() if "3 of 99" in each["message"]) == 2
    world.now = after(420 + 601)
    world.tell(Reason.STARTING, why="at last")
    assert world.events()[-1]["message"] == "Ready=False: at last"
