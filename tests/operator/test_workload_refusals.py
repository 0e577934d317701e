"""Refusals: the latest answer of the API server is told, though conditions keep the first."""

from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.workload.deployment import Deployment
from octavo_operator.workload.refusals import Refusal, refusal_of
from tests.support.operator.builders import NOW, after, refused_event, replica_set, stamp

QUOTA = 'pods "a" is forbidden: exceeded quota: q'
RANGE = 'pods "a" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'
POLICY = 'admission webhook "images.example" denied the request: sign them'


def maker() -> dict[str, Any]:
    found = replica_set(1, refusal=QUOTA)
    found["metadata"]["uid"] = "set"
    return found


def told(*events: dict[str, Any]) -> Refusal:
    found = maker()
    return refusal_of(found, found["status"]["conditions"][0], events)


def said(message: str, at: float, **fields: Any) -> dict[str, Any]:
    return refused_event(maker(), f"Error creating: {message}", after(at), **fields)


def test_the_latest_of_many_is_told_since_when_the_answer_is_of_its_kind() -> None:
    events = [said(QUOTA, 0), said(QUOTA, 1), said(RANGE, 100), said(POLICY, 200)]
    for each in (events, events[::-1]):
        assert told(*each) == Refusal(POLICY, after(100), is_latest=True)
    assert told(*events, said(QUOTA, 300)) == Refusal(QUOTA, after(300), is_latest=True)
    assert told(*events[:2]) == Refusal(QUOTA, NOW, is_latest=True), "since it is refused at all"


def test_one_that_stands_for_many_tells_the_latest_of_them() -> None:
    many = said(QUOTA, 5)
    many["message"] = f"(combined from similar events): Error creating: {POLICY}"
    many["lastTimestamp"] = stamp(after(900))
    assert told(many, said(QUOTA, 100)) == Refusal(POLICY, after(900), is_latest=True)


@pytest.mark.parametrize(
    "event",
    [
        said(POLICY, -61),  # of refusals that were over when this one began
        said(POLICY, 5, involvedObject={"uid": "another"}),
        said(POLICY, 5, involvedObject={}),
        said(POLICY, 5, reason="SuccessfulCreate"),
    ],
)
def test_events_of_anything_else_say_nothing(event: dict[str, Any]) -> None:
    assert told(event) == Refusal(QUOTA, NOW, is_latest=False)
    assert told(event, said(RANGE, 1)).message == RANGE


@pytest.mark.parametrize(
    "times",
    [
        {"eventTime": stamp(after(7)), "lastTimestamp": None},
        {"lastTimestamp": None, "eventTime": "2026-05-04T12:00:07.000000Z"},
        {"lastTimestamp": stamp(NOW), "series": {"lastObservedTime": stamp(after(7))}},
    ],
)
def test_events_of_the_newer_api_are_read_as_well(times: dict[str, Any]) -> None:
    assert told(said(QUOTA, 5), said(POLICY, 0, **times)).message == POLICY


def test_a_replica_set_that_may_not_be_made_is_told_by_the_deployment_s_latest_event() -> None:
    """`ReplicaSetCreateError` keeps its first text as well."""
    metadata = {"name": "llama", "namespace": "team", "uid": "mine", "generation": 2}
    condition = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError"}
    condition |= {"message": f"Failed to create: {QUOTA}", "lastUpdateTime": stamp(NOW)}
    live = {"metadata": metadata, "spec": {}, "status": {"conditions": [condition]}}
    workload = Deployment()
    assert workload.refused(live, ()) == [live]
    event = refused_event(live, f"Failed to create: {POLICY}", after(9), "ReplicaSetCreateError")
    found = workload.finding(live, (), (), [event])
    assert found is not None
    assert found.message == f"Failed to create: {POLICY}"
    assert workload.unmade_since(live, ()) == NOW, "since when there is none"


def test_those_are_asked_that_are_refused_and_ours() -> None:
    ours, theirs = maker(), replica_set(2, refusal=QUOTA, owner="another")
    content = replica_set(3)
    live = {"metadata": {"uid": "mine"}, "spec": {}}
    assert Deployment().refused(live, [ours, theirs, content]) == [ours]
