"""Endpoints and pods of a model: whose they are, and whether they are all there."""

from __future__ import annotations

import pytest

from octavo_operator.endpoints import PROPAGATION_SECONDS
from octavo_operator.manifest import POD
from octavo_operator.status import LOSS_PATIENCE_SECONDS
from tests.support.operator.builders import KEY
from tests.support.operator.world import World, running


def test_ready_comes_when_the_service_leads_to_the_pods() -> None:
    world = World()
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.kube.lead_to(KEY.namespace, KEY.name)
    assert world.reconcile() == pytest.approx(PROPAGATION_SECONDS)
    assert world.condition("Ready") == ("False", "Starting")
    assert world.condition("Progressing") == ("True", "Starting")
    world.kube.lead_to(KEY.namespace, KEY.name, f"{KEY.name}-0")
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Progressing") == ("False", "Settled")


@pytest.mark.parametrize("endpoints", [[], ["stranger"], ["llama-0", "stranger"]])
def test_endpoints_that_stay_other_than_our_pods_make_it_unready_and_take_the_url(
    endpoints: list[str],
) -> None:
    world = running()
    world.kube.lead_to(KEY.namespace, KEY.name, *endpoints)
    before = world.status
    assert world.reconcile() == pytest.approx(PROPAGATION_SECONDS)
    assert world.status == before
    world.seconds += PROPAGATION_SECONDS
    world.reconcile()
    assert world.condition("Ready") == ("False", "EndpointsMismatch")
    assert world.condition("Degraded") == ("True", "EndpointsMismatch")
    assert world.status["url"] == ""
    told = world.status
    world.restart_operator()
    world.reconcile()
    assert world.status == told
    world.kube.lead_to(KEY.namespace, KEY.name, f"{KEY.name}-0")
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("False", "AsExpected")
    assert world.status["url"]


def test_a_pod_with_our_label_that_is_not_ours_is_named_and_harms_nothing() -> None:
    world = running()
    labels = {"octavo.dev/llmdeployment": KEY.name}
    metadata = {"name": "debug", "namespace": KEY.namespace, "labels": labels}
    world.kube.put(POD, {"metadata": metadata, "status": {"phase": "Running"}})
    assert world.reconcile() == pytest.approx(PROPAGATION_SECONDS)
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds += PROPAGATION_SECONDS
    world.reconcile()
    assert world.condition("Degraded") == ("True", "StrayPods")
    assert "debug carries" in world.status["conditions"][-1]["message"]
    assert world.condition("Ready") == ("True", "Serving")
    assert "StrayPods" in world.events()
    world.kube.remove(POD, KEY.namespace, "debug")
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_lost_pod_needs_a_person_only_when_it_stays_away() -> None:
    world = running()
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    assert world.reconcile() == pytest.approx(LOSS_PATIENCE_SECONDS)
    assert world.condition("Ready") == ("False", "ReplicasUnavailable")
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds += LOSS_PATIENCE_SECONDS
    assert world.reconcile() is None
    assert world.condition("Degraded") == ("True", "ReplicasUnavailable")
