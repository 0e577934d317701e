"""Turns: an upgrade starts so many models anew at once, and the others serve on and scale."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.manifest import DEPLOYMENT, LLM_DEPLOYMENT, POD, Manifest, ObjectKey, key_of
from octavo_operator.reconcile import Reconciler
from octavo_operator.status import is_rolling_out
from octavo_operator.turns import Change, Turns
from tests.support.operator.builders import INSTALLATION, NOW, resource, stamp
from tests.support.operator.fake_kube import FakeKube

KEYS = [ObjectKey("team", name) for name in ("a", "b", "c")]
UPGRADE = Change(wanted="new", live="old", is_paused=False, has_others=True)


def nobody(_: ObjectKey) -> None:
    raise AssertionError


def test_without_a_limit_nobody_waits() -> None:
    turns = Turns(0, nobody)
    assert [turns.must_wait(key, UPGRADE) for key in KEYS] == [False] * 3


def test_a_turn_that_ends_wakes_the_one_that_waited_longest() -> None:
    woken: list[ObjectKey] = []
    turns = Turns(1, woken.append)
    assert [turns.must_wait(key, UPGRADE) for key in KEYS] == [False, True, True]
    turns.tell(KEYS[0], is_rolling=True)
    assert woken == []
    turns.tell(KEYS[0], is_rolling=False)
    assert woken == [KEYS[1]]
    assert turns.must_wait(KEYS[1], UPGRADE) is False
    assert turns.must_wait(KEYS[2], UPGRADE) is True


def test_an_object_that_is_gone_leaves_its_turn() -> None:
    woken: list[ObjectKey] = []
    turns = Turns(1, woken.append)
    turns.must_wait(KEYS[0], UPGRADE)
    turns.must_wait(KEYS[1], UPGRADE)
    turns.must_wait(KEYS[2], UPGRADE)
    turns.forget(KEYS[1])
    turns.forget(KEYS[0])
    assert woken == [KEYS[2]]


@pytest.mark.parametrize(
    "change",
    [
        replace(UPGRADE, has_others=False),
        replace(UPGRADE, live="new"),
        replace(UPGRADE, live=None, has_others=False),
    ],
)
def test_what_starts_nothing_anew_needs_no_turn(change: Change) -> None:
    turns = Turns(1, nobody)
    turns.seed([KEYS[0]])
    assert turns.must_wait(KEYS[1], change) is False


def test_what_waits_in_the_cluster_waits_on_after_a_restart() -> None:
    turns = Turns(1, nobody)
    turns.seed([KEYS[0]])
    assert turns.must_wait(KEYS[1], replace(UPGRADE, live="new", is_paused=True)) is True


def test_who_changes_a_spec_does_not_wait() -> None:
    turns = Turns(1, nobody)
    turns.seed([KEYS[0]])
    assert turns.must_wait(KEYS[1], UPGRADE) is True
    assert turns.must_wait(KEYS[1], replace(UPGRADE, live="new", is_paused=True)) is True
    edited = replace(UPGRADE, wanted="newer", live="new")
    # The write that follows may lose a race: the next pass finds the same.
    assert [turns.must_wait(KEYS[1], edited) for _ in range(3)] == [False] * 3
    assert turns.must_wait(KEYS[1], replace(edited, live="newer")) is False
    back = replace(edited, wanted="new", live="newer")
    assert turns.must_wait(KEYS[1], back) is False


@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60),
)
def test_no_more_than_the_limit_go_on_and_whoever_waits_is_woken(
    limit: int, steps: list[tuple[int, bool]]
) -> None:
    woken: list[ObjectKey] = []
    turns = Turns(limit, woken.append)
    keys = [ObjectKey("team", f"m{index}") for index in range(6)]
    rolling: set[ObjectKey] = set()
    waiting: set[ObjectKey] = set()

    def ask(key: ObjectKey) -> None:
        (waiting if turns.must_wait(key, UPGRADE) else rolling).add(key)
        waiting.difference_update(rolling)

    for index, is_end in steps:
        key = keys[index]
        if is_end and key in rolling:
            rolling.discard(key)
            turns.tell(key, is_rolling=False)
        elif not is_end:
            ask(key)
        while woken:
            ask(woken.pop(0))
        assert len(rolling) <= limit
        assert not waiting or len(rolling) == limit, "a turn is free and somebody waits"


class World:
    """Models that serve, and an operator of another runtime image that lets one go at a time."""

    def __init__(self, *names: str, limit: int = 1, **fields: Any) -> None:
        self.kube = FakeKube()
        self.keys = [ObjectKey("team", name) for name in names]
        self.woken: list[ObjectKey] = []
        self.start("old:1", 0)
        for key in self.keys:
            self.kube.put(LLM_DEPLOYMENT, resource(key=key, uid=f"uid-{key.name}", **fields))
            self.reconcile(key)
            self.run_pods(key)
            self.reconcile(key)
        self.start("new:2", limit)

    def start(self, image: str, limit: int) -> None:
        turns = Turns(limit, self.woken.append)
        live = asyncio.run(self.kube.list(LLM_DEPLOYMENT, None))
        turns.seed(key_of(each) for each in live if is_rolling_out(each))
        self.reconciler = Reconciler(
            self.kube,
            replace(INSTALLATION, runtime_image=image),
            Autoscaler(is_configured=True, snapshot_max_age_seconds=60),
            turns,
            instance="test",
            wall_clock=lambda: NOW,
            steady_clock=lambda: 0.0,
        )

    def reconcile(self, *keys: ObjectKey) -> None:
        for key in keys or self.keys:
            asyncio.run(self.reconciler.reconcile(key))

    def run_pods(self, key: ObjectKey) -> None:
        """The controllers' work is done for this model, and for this one alone."""
        others = {
            path: each
            for path, each in self.kube.objects.items()
            if path[0] == POD.kind and not path[2].startswith(key.name)
        }
        self.kube.run_pods(key.namespace, key.name)
        self.kube.objects |= others

    def edit(self, key: ObjectKey, **fields: Any) -> None:
        live = self.resource(key)
        self.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**live["spec"], **fields}})

    def resource(self, key: ObjectKey) -> Manifest:
        return self.kube.live(LLM_DEPLOYMENT, key.namespace, key.name)

    def spec(self, key: ObjectKey) -> dict[str, Any]:
        spec: dict[str, Any] = self.kube.live(DEPLOYMENT, key.namespace, key.name)["spec"]
        return spec

    def paused(self) -> list[str]:
        return [key.name for key in self.keys if self.spec(key).get("paused")]

    def conditions(self, key: ObjectKey) -> dict[str, tuple[str, str]]:
        status = self.resource(key)["status"]
        return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_an_upgrade_goes_through_the_models_one_by_one() -> None:
    world = World("a", "b", "c")
    revision = world.resource(world.keys[1])["status"]["revision"]
    world.reconcile()
    assert world.paused() == ["b", "c"]
    held = world.keys[1]
    assert world.conditions(held)["Ready"] == ("True", "Serving")
    assert world.conditions(held)["Progressing"] == ("True", "RolloutQueued")
    assert world.conditions(held)["Degraded"] == ("False", "AsExpected")
    assert world.resource(held)["status"]["revision"] == revision
    for done, next_ in ((0, ["c"]), (1, []), (2, [])):
        world.run_pods(world.keys[done])
        world.reconcile(world.keys[done])
        assert world.conditions(world.keys[done])["Progressing"] == ("False", "Settled")
        if world.woken:
            world.reconcile(world.woken.pop())
        assert world.paused() == next_
    assert world.resource(held)["status"]["revision"] != revision


def test_a_model_that_waits_scales_and_tells_of_lost_pods() -> None:
    world = World("a", "b")
    world.reconcile()
    held = world.keys[1]
    world.edit(held, replicas=3)
    world.reconcile(held)
    assert (world.spec(held)["replicas"], world.paused()) == (3, ["b"])
    assert world.conditions(held)["Progressing"] == ("True", "ScalingUp")
    world.edit(held, replicas=1)
    world.reconcile(held)
    for path in [path for path in world.kube.objects if path[0] == POD.kind and "b" in path[2]]:
        del world.kube.objects[path]
    world.reconcile(held)
    assert world.paused() == [], "what runs no pod has none to start anew"


def test_a_change_of_the_spec_has_its_rollout_at_once() -> None:
    world = World("a", "b")
    world.reconcile()
    world.edit(world.keys[1], engine={"maxNumSeqs": 8})
    world.reconcile(world.keys[1])
    assert world.paused() == []


def test_an_operator_that_restarts_keeps_the_turns() -> None:
    world = World("a", "b")
    world.reconcile()
    world.start("new:2", 1)
    for key in reversed(world.keys):
        world.reconcile(key)
    assert world.paused() == ["b"]
    world.start("new:2", 0)
    world.reconcile()
    assert world.paused() == [], "a limit that is lifted lets all go"


def test_a_rollout_that_is_given_up_leaves_its_turn() -> None:
    world = World("a", "b")
    world.reconcile()
    first = world.keys[0]
    deployment = world.kube.live(DEPLOYMENT, first.namespace, first.name)
    exceeded = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    exceeded["lastTransitionTime"] = stamp(NOW)
    world.kube.put(DEPLOYMENT, {**deployment, "status": {"conditions": [exceeded]}})
    world.reconcile(first)
    assert world.woken == [world.keys[1]]


def test_without_a_limit_an_upgrade_starts_all_at_once() -> None:
    world = World("a", "b", limit=0)
    world.reconcile()
    assert world.paused() == []
