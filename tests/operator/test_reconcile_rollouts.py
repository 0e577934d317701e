"""Rollouts that lack room go on in place."""

from __future__ import annotations

import copy

import pytest

from octavo_operator.manifest import POD
from tests.support.operator.builders import KEY, NOW, stamp
from tests.support.operator.world import running


def test_a_rollout_that_a_quota_holds_up_goes_on_in_place() -> None:
    world = running(replicas=2)
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": 'pods "a" is forbidden: exceeded quota: q, requested: pods=1, limited: pods=2',
        "lastTransitionTime": "2026-05-04T12:00:00Z",
    }
    world.deployment["status"] = {"conditions": [failure]}
    assert world.reconcile() == pytest.approx(60)
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds += 60
    world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    assert world.deployment["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }


def test_a_restart_that_lacks_room_goes_on_in_place_and_is_a_rollout_to_look_at() -> None:
    """As `kubectl rollout restart` leaves it: two old pods serve, and the new one finds no GPU."""
    world = running(replicas=2)
    new = copy.deepcopy(world.kube.live(POD, KEY.namespace, f"{KEY.name}-1"))
    new["metadata"] |= {"name": f"{KEY.name}-new", "uid": "new"}
    new["status"] = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                "lastTransitionTime": "2026-05-04T12:00:00Z",
            }
        ],
    }
    world.kube.put(POD, new)
    world.deployment["status"] = {"replicas": 3, "updatedReplicas": 1}
    assert world.reconcile() == pytest.approx(60)
    assert world.condition("Progressing") == ("True", "RollingOut")
    assert world.condition("Ready") == ("True", "Serving")
    world.seconds += 60
    world.reconcile()
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
    world.deployment["status"] = {"replicas": 2, "updatedReplicas": 2}
    world.kube.remove(POD, KEY.namespace, f"{KEY.name}-new")
    world.reconcile()
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
    assert world.condition("Progressing") == ("False", "Settled")


def test_gpus_are_counted_from_the_pods_whatever_the_spec_says_by_now() -> None:
    world = running(replicas=2, resources={"gpu": 1})
    assert world.status["gpus"] == 2
    world.edit(resources={"gpu": 4})
    new = copy.deepcopy(world.kube.live(POD, KEY.namespace, f"{KEY.name}-1"))
    new["metadata"] |= {"name": f"{KEY.name}-new", "uid": "new"}
    new["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "4"
    world.kube.put(POD, new)
    world.reconcile()
    assert world.status["gpus"] == 1 + 1 + 4
    world.edit(resources={"gpu": 0}, replicas=0)
    for name in (f"{KEY.name}-1", f"{KEY.name}-new"):
        world.kube.live(POD, KEY.namespace, name)["metadata"]["deletionTimestamp"] = stamp(NOW)
    world.reconcile()
    assert (world.status["gpus"], world.status["replicas"]) == (6, 1), (
        "they hold them while they drain"
    )
