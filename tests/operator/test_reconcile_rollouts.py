"""Rollouts that lack room go on in place; those that take too long are given up."""

from __future__ import annotations

import copy

import pytest

from octavo_operator.manifest import POD
from tests.support.operator.builders import KEY, NOW, stamp
from tests.support.operator.world import World, running


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
    assert world.reconcile() == pytest.approx(30)
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


def test_a_rollout_whose_pods_no_node_runs_goes_on_in_place() -> None:
    """The kubelet refuses what the scheduler placed, and the next one that the ReplicaSet makes, too."""
    world = running(replicas=2)
    old = copy.deepcopy(world.kube.live(POD, KEY.namespace, f"{KEY.name}-1"))
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    labels = world.deployment["spec"]["template"]["metadata"]["labels"]
    made_from = labels["octavo.dev/revision"]

    def refused() -> None:
        new = copy.deepcopy(old)
        made_at = world.wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        new["metadata"] |= {
            "name": f"{KEY.name}-new-{world.seconds}",
            "creationTimestamp": made_at,
            "labels": labels | {"pod-template-hash": made_from},
        }
        new["metadata"]["ownerReferences"][0]["name"] = f"{KEY.name}-{made_from}"
        message = "Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: 2"
        status = {"phase": "Failed", "reason": "OutOfnvidia.com/gpu", "message": message}
        world.kube.put(POD, {**new, "status": status})

    refused()
    assert world.reconcile() == pytest.approx(60)
    assert world.condition("Ready") == ("False", "InsufficientGpu")
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds += 59
    refused()
    world.reconcile()
    world.seconds += 1
    world.reconcile()
    assert world.condition("Degraded") == ("True", "InsufficientGpu")
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
    world.seconds += 60  # none was made since: what came fits
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


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


def test_a_deadline_that_is_raised_after_it_passed_is_the_one_that_holds() -> None:
    """Kubernetes keeps its verdict until a pod becomes ready."""
    world = World(rollout={"progressDeadline": "30s"})
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    world.kube.live(POD, KEY.namespace, f"{KEY.name}-0")["metadata"]["creationTimestamp"] = stamp(
        NOW
    )
    world.seconds += 31
    given_up = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    given_up["lastTransitionTime"] = stamp(world.wall_clock())
    world.deployment["status"] = {"conditions": [given_up]}
    world.reconcile()
    for type_ in ("Ready", "Progressing"):
        assert world.condition(type_) == ("False", "ProgressDeadlineExceeded")
    assert world.condition("Degraded") == ("True", "ProgressDeadlineExceeded")
    world.edit(rollout={"progressDeadline": "5m"})
    assert world.reconcile() == 300 - world.seconds
    assert world.condition("Progressing") == ("True", "Starting")
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds = 300
    world.reconcile()
    assert world.condition("Progressing") == ("False", "ProgressDeadlineExceeded")
