"""Pods that are refused: the status tells what refuses those of the revision in force; no other pass asks."""

from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.kube import KubeError
from octavo_operator.manifest import EVENT, REPLICA_SET
from tests.support.operator.builders import KEY, after, refused_event, replica_set, stamp
from tests.support.operator.world import World, running

QUOTA = 'pods "a" is forbidden: exceeded quota: q'
POLICY = 'admission webhook "images.example" denied the request: sign them'


def say(world: World, message: str = QUOTA) -> None:
    """What the controller of Deployments keeps saying of its latest generation."""
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    failure |= {"message": message, "lastTransitionTime": stamp(after(0))}
    generation = world.deployment["metadata"]["generation"]
    world.deployment["status"] = {"observedGeneration": generation, "conditions": [failure]}


def put(world: World, number: int, **fields: Any) -> None:
    owner = world.deployment["metadata"]["uid"]
    world.kube.put(REPLICA_SET, replica_set(number, owner=owner, **fields))


def refuse(world: World, number: int, message: str, seconds: float) -> None:
    """As the controller of ReplicaSets tells of each refusal."""
    maker = world.kube.live(REPLICA_SET, KEY.namespace, f"{KEY.name}-{number}")
    event = refused_event(maker, f"Error creating: {message}", after(seconds))
    world.kube.put(EVENT, event)


def degraded(world: World) -> str:
    (message,) = (e["message"] for e in world.status["conditions"] if e["type"] == "Degraded")
    return str(message)


def test_a_new_reason_after_the_spec_was_corrected_is_told_though_nobody_follows_it() -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=QUOTA)
    say(world)
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Ready") == ("False", "QuotaExceeded")
    world.edit(resources={"memory": "1Gi"})
    world.reconcile()
    put(world, 2, made=after(5))
    say(world)
    assert world.reconcile() == pytest.approx(5), (
        "its first refusal makes no event that is followed"
    )
    assert world.condition("Degraded") == ("False", "AsExpected")
    put(world, 2, made=after(5), refusal=POLICY, since=after(6))
    refuse(world, 2, POLICY, 6)
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "PodsForbidden")
    assert degraded(world) == POLICY


def test_no_refusal_is_told_beside_the_pods_that_it_is_about() -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=QUOTA)
    say(world)
    world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    makers = world.kube.live(REPLICA_SET, KEY.namespace, f"{KEY.name}-1")
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    for (kind, _, _), each in world.kube.objects.items():
        if kind == "Pod":
            each["metadata"]["ownerReferences"][0]["uid"] = makers["metadata"]["uid"]
    world.reconcile()
    assert world.condition("Ready") == ("False", "Starting")
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_another_reason_for_the_same_replica_set_is_told_within_its_half_minute() -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=QUOTA)
    say(world)
    refuse(world, 1, QUOTA, 0)
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    refuse(world, 1, POLICY, 25)
    world.seconds = 30
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "PodsForbidden")
    assert world.condition("Ready") == ("False", "PodsForbidden")
    assert degraded(world) == POLICY


def test_no_pod_is_given_up_for_room_that_is_not_what_the_new_one_lacks_by_now() -> None:
    world = running(replicas=2)
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    put(world, 2, refusal=QUOTA)
    say(world)
    refuse(world, 2, QUOTA, 0)
    refuse(world, 2, POLICY, 30)
    world.seconds = 3600
    world.reconcile()
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_without_the_right_to_read_events_the_first_refusal_is_told_as_what_it_is() -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=QUOTA)
    say(world)
    refuse(world, 1, POLICY, 5)
    forbidden = KubeError(403, "Forbidden", "events is forbidden")
    world.kube.fault = lambda verb, kind, _name: (
        forbidden if (verb, kind) == ("list", EVENT) else None
    )
    world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    assert "what its controller was refused for first, and may be mended" in degraded(world)
    assert "Role is of an older chart" in degraded(world)


def test_replica_sets_are_read_while_pods_are_refused_and_not_else() -> None:
    world = running()
    assert ("list", "ReplicaSet", "") not in world.kube.requests
    assert ("list", "Event", "") not in world.kube.requests
    say(world)
    world.reconcile()
    assert world.kube.requests.count(("list", "ReplicaSet", "")) == 1
    world.deployment["status"] = {"conditions": []}
    world.kube.requests.clear()
    assert world.reconcile() is None
    assert ("list", "ReplicaSet", "") not in world.kube.requests
    assert ("list", "Event", "") not in world.kube.requests


def test_without_the_right_to_read_them_the_first_refusal_is_told_as_what_it_is() -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=POLICY)
    say(world)
    forbidden = KubeError(403, "Forbidden", "replicasets.apps is forbidden")
    world.kube.fault = lambda _verb, kind, _name: forbidden if kind is REPLICA_SET else None
    world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    assert degraded(world).startswith(QUOTA)
    assert "refused for first, and may be mended" in degraded(world)


def test_a_server_that_fails_at_them_fails_the_pass_as_any_read_does() -> None:
    world = World()
    world.reconcile()
    say(world)
    failure = KubeError(500, "InternalError", "etcd is away")
    world.kube.fault = lambda _verb, kind, _name: failure if kind is REPLICA_SET else None
    with pytest.raises(KubeError, match="etcd is away"):
        world.reconcile()


def test_a_replica_set_that_a_quota_of_objects_refuses_is_told() -> None:
    """No pod is refused, none is made, and the controller would go on for ever without a word."""
    world = running()
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    message = (
        'Failed to create new replica set "a": replicasets.apps "a" is forbidden: exceeded quota: q'
    )
    failing = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError"}
    failing |= {"message": message, "lastTransitionTime": stamp(after(0))}
    world.deployment["status"] = {"observedGeneration": 1, "conditions": [failing]}
    world.reconcile()
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    assert degraded(world).startswith(message)


def test_a_replica_set_that_cannot_be_made_is_given_up_at_the_deadline() -> None:
    """Kubernetes never does, and an upgrade's turn would be kept for as long."""
    world = running(rollout={"progressDeadline": "5m"})
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    failing = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError"}
    failing |= {"message": "exceeded quota", "lastUpdateTime": stamp(after(0))}
    world.deployment["status"] = {"observedGeneration": 1, "conditions": [failing]}
    world.seconds = 290
    assert world.reconcile() == pytest.approx(10)
    assert world.condition("Progressing") == ("True", "RollingOut")
    world.seconds = 300
    world.reconcile()
    assert world.condition("Progressing") == ("False", "ProgressDeadlineExceeded")


@pytest.mark.parametrize(
    ("message", "is_verdict"),
    [
        ('Internal error occurred: failed calling webhook "a": connection refused', False),
        ("etcdserver: leader changed", False),
        ('pods "a-" is forbidden: error looking up service account team/llama: not found', False),
        (POLICY, True),
        ('pods "a" is forbidden: violates PodSecurity "restricted"', True),
        ('Pod "a" is invalid: spec.containers[0].image: Required value', True),
    ],
)
def test_what_passes_within_seconds_is_no_alarm_and_said_at_once(
    message: str, is_verdict: bool
) -> None:
    world = World()
    world.reconcile()
    put(world, 1, refusal=message)
    say(world, message)
    world.seconds = 19
    world.reconcile()
    assert world.condition("Ready") == ("False", "PodsForbidden")
    assert (world.condition("Degraded")[0] == "True") is is_verdict
    world.seconds = 20
    world.reconcile()
    assert world.condition("Degraded") == ("True", "PodsForbidden")


def test_a_new_revision_has_the_time_to_find_room_that_the_former_had_waited_for() -> None:
    world = running(replicas=2)
    put(world, 1, refusal=QUOTA)
    say(world)
    world.seconds = 3600
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    put(world, 2, made=after(3600), refusal=QUOTA, since=after(3601))
    say(world)
    world.reconcile()
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
    world.seconds = 3661
    world.reconcile()
    strategy = world.deployment["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
