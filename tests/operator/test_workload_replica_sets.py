"""ReplicaSets of a Deployment: which of them tells why there are no pods."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from octavo_operator.api.conditions import Reason
from octavo_operator.workload.deployment import Deployment
from tests.support.operator.builders import KEY, NOW, after, replica_set, stamp

DEPLOYMENT = Deployment()
QUOTA = 'pods "a" is forbidden: exceeded quota: q'
POLICY = 'admission webhook "images.example" denied the request: sign them'


def deployment(
    type_: str, status: str, reason: str, message: str, *, observed: int | None = 2
) -> dict[str, Any]:
    condition = {"type": type_, "status": status, "reason": reason, "message": message}
    condition["lastTransitionTime"] = stamp(NOW)
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": "mine", "generation": 2}
    seen = {} if observed is None else {"observedGeneration": observed}
    return {"metadata": metadata, "spec": {}, "status": {**seen, "conditions": [condition]}}


REFUSED = deployment("ReplicaFailure", "True", "FailedCreate", QUOTA)


def refused_set(number: int, message: str, since: datetime = NOW, **fields: Any) -> dict[str, Any]:
    return replica_set(number, refusal=message, since=since, **fields)


def told(*replica_sets: dict[str, Any]) -> tuple[str, datetime | None] | None:
    found = DEPLOYMENT.finding(REFUSED, replica_sets)
    return None if found is None else (found.message.partition("; ")[0], found.since)


def test_the_newest_one_tells_though_the_deployment_tells_what_it_heard_first() -> None:
    sets = [refused_set(9, QUOTA), refused_set(10, POLICY, after(5), made=after(4))]
    for each in (sets, sets[::-1]):
        found = DEPLOYMENT.finding(REFUSED, each)
        assert found is not None
        assert (found.reason, found.message.partition("; ")[0]) == (Reason.PODS_FORBIDDEN, POLICY)


def test_room_is_waited_for_since_the_newest_one_lacks_it() -> None:
    assert told(refused_set(1, POLICY), refused_set(2, QUOTA, after(5), made=after(4))) == (
        QUOTA,
        after(5),
    )


def test_what_was_refused_before_the_newest_was_made_is_over() -> None:
    assert told(refused_set(1, POLICY), replica_set(2, made=after(4))) is None


def test_a_pod_of_the_former_revision_that_was_lost_meanwhile_and_is_refused_is_told() -> None:
    former = refused_set(1, QUOTA, after(9))
    assert told(former, replica_set(2, made=after(4))) == (QUOTA, after(9))


@pytest.mark.parametrize("is_newest", [True, False])
def test_a_refusal_of_one_that_has_all_its_pods_by_now_is_over(is_newest: bool) -> None:
    """Its controller makes the pods first and takes the condition away then."""
    refused = refused_set(1 if is_newest else 0, QUOTA, after(9))
    refused["metadata"]["uid"] = "set"
    refused["spec"]["replicas"] = 2
    sets = [refused] if is_newest else [refused, replica_set(1, made=after(4))]
    owner = {"kind": "ReplicaSet", "name": "a", "uid": "set", "controller": True}
    made: dict[str, Any] = {"metadata": {"name": "a", "ownerReferences": [owner]}}
    leaving = {"metadata": {**made["metadata"], "deletionTimestamp": stamp(NOW)}}
    evicted = {**made, "status": {"phase": "Failed"}}
    assert DEPLOYMENT.finding(REFUSED, sets, [made, leaving, evicted]) is not None
    assert DEPLOYMENT.finding(REFUSED, sets, [made, made]) is None


def test_one_that_is_to_have_no_pods_is_refused_none() -> None:
    former = refused_set(1, QUOTA, after(9))
    former["spec"]["replicas"] = 0
    assert told(former, replica_set(2, made=after(4))) is None


def test_those_of_others_are_not_asked() -> None:
    """A label is anybody's to set."""
    ours = refused_set(1, QUOTA)
    assert told(refused_set(7, POLICY, owner="another"), ours) == (QUOTA, NOW)
    assert told(refused_set(7, POLICY, owner="another")) == (QUOTA, NOW)


def test_one_whose_number_cannot_be_read_comes_last() -> None:
    odd = refused_set(0, POLICY)
    for written in ({}, {"deployment.kubernetes.io/revision": "new"}):
        odd["metadata"]["annotations"] = written
        assert told(odd, refused_set(1, QUOTA)) == (QUOTA, NOW)


def test_where_they_may_not_be_read_the_first_refusal_is_told_as_that() -> None:
    found = DEPLOYMENT.finding(REFUSED, None)
    assert found is not None
    assert found.message.startswith(QUOTA)
    assert "refused for first, and may be mended" in found.message
    assert "Role is of an older chart" in found.message


@pytest.mark.parametrize(
    ("observed", "sets", "is_told"),
    [
        (None, [], True),
        (1, [replica_set(1, revision="old")], True),
        # The spec went back to one that there is: the condition stays until something moves.
        (2, [replica_set(1, revision="new"), replica_set(2, revision="old")], False),
        # It was taken away.
        (2, [replica_set(1, revision="old"), replica_set(2, revision="new", owner="x")], True),
        (2, None, False),
    ],
)
def test_a_replica_set_that_is_refused_itself_is_told_while_there_is_none(
    observed: int | None, sets: list[dict[str, Any]] | None, is_told: bool
) -> None:
    """Its controller notes the generation when it has made one, and keeps the condition."""
    message = (
        'replicasets.apps "a" is forbidden: exceeded quota: q, requested: count/replicasets.apps=1'
    )
    failing = deployment(
        "Progressing", "False", "ReplicaSetCreateError", message, observed=observed
    )
    failing["spec"] = {"template": {"metadata": {"labels": {"octavo.dev/revision": "new"}}}}
    failing["status"]["conditions"][0]["lastUpdateTime"] = stamp(
        after(60)
    )  # a deadline passed before
    assert DEPLOYMENT.is_refused(failing)
    found = DEPLOYMENT.finding(failing, sets)
    assert (found is not None) is is_told
    assert DEPLOYMENT.unmade_since(failing, sets) == (after(60) if is_told else None)
    if found is not None:
        assert (found.reason, found.since) == (Reason.QUOTA_EXCEEDED, after(60))
        assert not found.is_shortage, "one pod less makes no room for it"
