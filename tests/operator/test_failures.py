"""Passes that fail again and again show in the status, not in the log alone."""

from __future__ import annotations

import asyncio

import pytest

from octavo_operator.failures import PATIENCE_SECONDS
from octavo_operator.kube import KubeError
from octavo_operator.manifest import ENDPOINT_SLICE, LLM_DEPLOYMENT, NETWORK_POLICY, POD, Kind
from tests.support.operator.builders import KEY
from tests.support.operator.world import World, running


def failing(world: World, error: Exception, verb: str = "list", kind: Kind = POD) -> None:
    """From now on one request fails, and what it fails with is no answer of an API server."""

    def fault(asked: str, of: Kind, _name: str) -> None:
        if (asked, of) == (verb, kind):
            raise error

    world.kube.fault = fault


def passes(world: World, count: int = 1) -> None:
    for _ in range(count):
        with pytest.raises(Exception, match=r".*"):
            world.reconcile()


def message(world: World, type_: str = "Degraded") -> str:
    found: str = next(
        each["message"] for each in world.status["conditions"] if each["type"] == type_
    )
    return found


def test_a_fault_of_ours_is_told_when_it_comes_again_and_what_was_seen_stays() -> None:
    world = running()
    before = world.status
    failing(world, KeyError("secret-looking text"))
    passes(world)
    assert world.status == before
    passes(world, 3)
    assert world.condition("Degraded") == ("True", "ReconcileFailed")
    assert "KeyError" in message(world)
    assert "kubectl -n octavo-system logs test" in message(world)
    assert "secret-looking" not in str(world.status)
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Progressing") == ("False", "Settled")
    assert world.events().count("ReconcileFailed") == 1
    world.kube.fault = lambda *_: None
    world.reconcile()
    assert world.status == {
        **before,
        "conditions": [
            # It was True meanwhile.
            {**each, "lastTransitionTime": world.status["conditions"][4]["lastTransitionTime"]}
            if each["type"] == "Degraded"
            else each
            for each in before["conditions"]
        ],
    }


def test_of_a_generation_that_no_pass_came_through_nothing_is_known() -> None:
    world = running()
    world.edit(engine={"maxNumSeqs": 8})
    failing(world, KeyError())
    passes(world, 2)
    for type_ in ("Ready", "ModelAvailable", "Progressing", "Autoscaling"):
        assert world.condition(type_) == ("Unknown", "ReconcileFailed")
    assert world.condition("Reconciling") == ("True", "ReconcileFailed")
    assert world.status["observedGeneration"] == 2
    assert world.status["readyReplicas"] == 1
    # Another fault at the same generation is told as it is.
    failing(world, TypeError())
    passes(world)
    assert "TypeError" in message(world, "Ready")
    assert "TypeError" in message(world)


def test_an_object_that_was_never_reconciled_says_why() -> None:
    world = World()
    failing(world, RuntimeError())
    passes(world, 2)
    assert world.condition("Ready") == ("Unknown", "ReconcileFailed")
    assert world.condition("Degraded") == ("True", "ReconcileFailed")


def test_what_the_api_server_fails_at_is_told_after_a_patience() -> None:
    """A right that is missing, most often: an operator newer than its roles."""
    world = running()
    before = world.status
    failing(world, KubeError(403, "Forbidden", "endpointslices is forbidden"), kind=ENDPOINT_SLICE)
    passes(world, 5)
    assert world.status == before
    world.seconds += PATIENCE_SECONDS
    passes(world)
    assert world.condition("Degraded") == ("True", "ReconcileFailed")
    assert "endpointslices is forbidden" in message(world)
    world.kube.fault = lambda *_: None
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
    # It began anew: that it failed before is no matter.
    failing(world, KubeError(500, "InternalError", "later"))
    passes(world, 2)
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_webhook_that_nobody_answers_for_hides_neither_itself_nor_the_pods() -> None:
    world = running()
    world.edit(service={"annotations": {"a": "b"}}, replicas=2)
    dead = KubeError(500, "InternalError", 'failed calling webhook "x": context deadline exceeded')
    world.kube.fault = lambda verb, kind, _: (
        dead if verb == "apply" and kind == NETWORK_POLICY else None
    )
    world.kube.remove(NETWORK_POLICY, KEY.namespace, KEY.name)
    passes(world, 2)
    assert world.deployment["spec"]["replicas"] == 1
    world.seconds += PATIENCE_SECONDS
    assert world.reconcile() == 30
    assert world.condition("Degraded") == ("True", "ApplyFailed")
    assert "context deadline exceeded" in message(world)
    assert world.deployment["spec"]["replicas"] == 2
    world.kube.run_pods(KEY.namespace, KEY.name)
    passes(world)
    world.seconds += PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("True", "ApplyFailed")


def test_a_failure_that_cannot_be_told_hides_nothing() -> None:
    world = running()
    failing(world, KeyError("pods"))
    passes(world)
    world.kube.fault = lambda _verb, kind, _name: (
        KubeError(503, "", "down") if kind == LLM_DEPLOYMENT else None
    )
    world.seconds += PATIENCE_SECONDS
    with pytest.raises(KubeError, match="down"):
        asyncio.run(world.reconciler.reconcile(KEY))


@pytest.mark.parametrize("code", [403, 404, 409])
def test_a_status_that_cannot_be_written_is_told_in_one_event(code: int) -> None:
    """A webhook for `llmdeployments/status` that refuses, with whatever status."""
    world = World()
    denied = KubeError(code, "Forbidden", 'admission webhook "x.io" denied the request')
    failing(world, denied, "status", LLM_DEPLOYMENT)
    for _ in range(5):
        passes(world)
        world.seconds += PATIENCE_SECONDS
    found = [each for (kind, *_), each in world.kube.objects.items() if kind == "Event"]
    assert [(each["type"], each["reason"], each["count"]) for each in found] == [
        ("Warning", "ReconcileFailed", 4)
    ]
    assert found[0]["message"] == f"its status cannot be written: {denied}"
    assert "status" not in world.resource


def test_a_child_that_is_refused_as_if_a_race_was_lost_hides_the_pods_no_longer() -> None:
    world = running()
    world.edit(replicas=2, service={"annotations": {"a": "b"}})
    conflict = KubeError(409, "Conflict", 'admission webhook "x.io" denied the request')
    failing(world, conflict, "apply", NETWORK_POLICY)
    world.kube.remove(NETWORK_POLICY, KEY.namespace, KEY.name)
    passes(world, 2)
    world.seconds += PATIENCE_SECONDS
    assert world.reconcile() == 30
    world.kube.run_pods(KEY.namespace, KEY.name)
    passes(world)
    world.seconds += PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Degraded") == ("True", "ApplyFailed")
    assert world.status["readyReplicas"] == 2
