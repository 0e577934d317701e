"""Children that are refused, or somebody else's, or changed by others: what is said, and what goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from octavo_operator.contest import LONGEST_HOLD_SECONDS, MOST_REPAIRS
from octavo_operator.kube import KubeError
from octavo_operator.manifest import (
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    Manifest,
)
from octavo_operator.overruled import FIRST_SECONDS
from octavo_operator.reconcile import Reconciler
from tests.support.operator.builders import INSTALLATION, KEY
from tests.support.operator.world import World, refused, running


def told(world: World, type_: str) -> str:
    (message,) = (e["message"] for e in world.status["conditions"] if e["type"] == type_)
    return str(message)


def test_the_object_of_somebody_else_stops_everything_and_is_named() -> None:
    world = World()
    foreign = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "foreign"}}
    world.kube.put(SERVICE_ACCOUNT, foreign)
    assert world.reconcile() is not None
    assert world.condition("Degraded") == ("True", "NameConflict")
    assert world.condition("Progressing") == ("False", "NameConflict")
    assert "remove it, or give the LLMDeployment another name" in told(world, "Progressing")
    assert world.kube.kinds() == ["LLMDeployment", "ServiceAccount"]
    assert world.kube.live(SERVICE_ACCOUNT, KEY.namespace, KEY.name)["metadata"]["uid"] == "foreign"
    world.kube.remove(SERVICE_ACCOUNT, KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
    assert world.condition("Progressing") == ("True", "Starting")


def test_a_refused_child_is_said_and_tried_again_while_the_others_go_on() -> None:
    world = World()
    refusal = KubeError(403, "Forbidden", "exceeded quota: services")
    world.kube.fault = lambda verb, kind, _: (
        refusal if verb == "apply" and kind is SERVICE else None
    )
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "ApplyFailed")
    degraded = next(each for each in world.status["conditions"] if each["type"] == "Degraded")
    assert "Service llama: exceeded quota" in degraded["message"]
    assert "Deployment" in world.kube.kinds()


def test_every_child_that_is_refused_is_named() -> None:
    world = World()
    kinds = {NETWORK_POLICY: "no policies", SERVICE: "no services"}
    world.kube.fault = lambda verb, kind, _: (
        KubeError(403, "Forbidden", kinds[kind]) if verb == "apply" and kind in kinds else None
    )
    world.reconcile()
    told = {each["type"]: each["message"] for each in world.status["conditions"]}
    assert told["Degraded"] == "NetworkPolicy llama: no policies; Service llama: no services"
    assert "no policies" not in told["Ready"]  # which has nothing to do with requests


def test_without_its_service_a_model_that_loaded_is_not_ready_and_has_no_url() -> None:
    world = World()
    world.kube.fault = refused(SERVICE)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Ready") == ("False", "ApplyFailed")
    assert world.status["url"] == ""
    world.kube.fault = lambda _verb, _kind, _name: None
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["url"]


def test_a_service_of_somebody_else_makes_a_serving_model_unready() -> None:
    world = running()
    foreign = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "foreign"}}
    world.kube.remove(SERVICE, KEY.namespace, KEY.name)
    world.kube.put(SERVICE, foreign)
    world.reconcile()
    assert world.condition("Ready") == ("False", "NameConflict")
    assert world.status["url"] == ""


@pytest.mark.parametrize("kind", [POD_DISRUPTION_BUDGET, NETWORK_POLICY])
def test_another_child_that_is_refused_leaves_a_serving_model_ready(kind: Any) -> None:
    world = running()
    world.kube.remove(kind, KEY.namespace, KEY.name)
    world.kube.fault = refused(kind)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["url"]
    assert world.condition("Degraded") == ("True", "ApplyFailed")


def test_two_operators_of_different_opinion_do_not_chase_each_other() -> None:
    """The other one has a Lease of its own, another runtime image and the same field manager."""
    world = running()
    other = World()
    other.kube = world.kube
    other.reconciler = Reconciler(
        world.kube,
        replace(INSTALLATION, runtime_image="other:2"),
        other.autoscaler,
        instance="other",
        wall_clock=world.wall_clock,
        steady_clock=lambda: world.seconds,
    )
    generation = world.deployment["metadata"]["generation"]
    for _ in range(50):
        other.reconcile()
        world.reconcile()
        world.seconds += 0.2
    assert world.deployment["metadata"]["generation"] - generation <= 12
    assert world.condition("Degraded") == ("True", "Contested")


def test_every_name_that_is_taken_is_named_at_once() -> None:
    world = World()
    for kind in (SERVICE_ACCOUNT, NETWORK_POLICY):
        taken = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "foreign"}}
        world.kube.put(kind, taken)
    world.reconcile()
    message = world.status["conditions"][-1]["message"]
    assert "ServiceAccount team/llama, NetworkPolicy team/llama exist" in message


def test_a_repair_that_somebody_else_was_faster_than_is_tried_again_and_told_to_nobody() -> None:
    world = running()
    world.deployment["spec"]["paused"] = True
    world.deployment["metadata"]["managedFields"] += [
        {"manager": "kubectl-rollout", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    ]
    world.kube.remove(POD_DISRUPTION_BUDGET, KEY.namespace, KEY.name)
    before = world.status
    lost = KubeError(409, "Conflict", "has changed since it was read")
    world.kube.fault = lambda verb, _kind, _name: lost if verb == "patch" else None
    with pytest.raises(KubeError, match="has changed"):
        world.reconcile()
    assert world.status == before
    # The other children do not wait for it.
    assert "PodDisruptionBudget" in world.kube.kinds()
    world.kube.fault = lambda _verb, _kind, _name: None
    world.reconcile()
    assert "paused" not in world.deployment["spec"]


def test_a_service_that_something_keeps_changing_is_said() -> None:
    """A webhook that writes another selector into every apply."""
    world = running()
    world.kube.live(SERVICE, KEY.namespace, KEY.name)["spec"]["selector"]["team"] = "blue"
    apply = world.kube.apply

    async def changed(kind: Any, manifest: Manifest) -> Manifest:
        live = await apply(kind, manifest)
        if kind is SERVICE:
            live["spec"]["selector"] = {**live["spec"]["selector"], "team": "blue"}
        return live

    world.kube.apply = changed  # type: ignore[method-assign]
    world.reconcile()
    assert world.condition("Ready") == ("False", "Contested")
    assert world.status["url"] == ""


def test_a_service_that_still_leads_to_the_pods_serves_though_an_update_is_refused() -> None:
    world = running()
    live = world.kube.live(SERVICE, KEY.namespace, KEY.name)
    live["metadata"]["annotations"] = {"octavo.dev/manifest-hash": "of an older operator"}
    world.kube.fault = refused(SERVICE)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("True", "ApplyFailed")
    live["spec"]["selector"] = {"app": "another"}
    world.reconcile()
    assert world.condition("Ready") == ("False", "ApplyFailed")


def test_a_conflict_elsewhere_leaves_a_serving_model_ready() -> None:
    world = running()
    other = [{"uid": "other", "controller": True}]
    world.kube.live(SERVICE_ACCOUNT, KEY.namespace, KEY.name)["metadata"]["ownerReferences"] = other
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("True", "NameConflict")
    assert world.condition("Progressing") == ("False", "Settled")


OFF_THE_NETWORK = "service.kubernetes.io/service-proxy-name"


def labelled(live: Manifest) -> Manifest:
    """By somebody else's hand, as `kubectl label` does it."""
    metadata = live["metadata"]
    entry = {"manager": "kubectl-label", "operation": "Update"}
    labels = metadata["labels"] | {OFF_THE_NETWORK: "foo"}
    written = [each for each in metadata["managedFields"] if each != entry]
    return {**live, "metadata": metadata | {"labels": labels, "managedFields": [*written, entry]}}


def test_a_service_that_is_taken_off_the_network_again_and_again_is_not_called_ready() -> None:
    world = running()
    for _ in range(3 * MOST_REPAIRS):
        world.kube.put(SERVICE, labelled(world.kube.live(SERVICE, KEY.namespace, KEY.name)))
        world.reconcile()
        world.seconds += 0.3
    assert (
        OFF_THE_NETWORK in world.kube.live(SERVICE, KEY.namespace, KEY.name)["metadata"]["labels"]
    )
    for each in ("Ready", "Degraded"):
        assert world.condition(each)[1] == "Contested"
        for part in (OFF_THE_NETWORK, "kube-proxy brings it no request", "kubectl-label"):
            assert part in told(world, each)
    assert world.condition("Ready")[0] == "False"
    assert world.status["url"] == ""
    world.seconds += LONGEST_HOLD_SECONDS
    world.reconcile()  # and nobody puts it there any more
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["url"]


def test_a_service_off_the_network_is_not_called_ready_while_its_repair_is_refused() -> None:
    world = running()
    world.kube.put(SERVICE, labelled(world.kube.live(SERVICE, KEY.namespace, KEY.name)))
    refusal = KubeError(403, "Forbidden", "no changes of Services")
    world.kube.fault = lambda verb, _kind, _name: refusal if verb == "patch" else None
    world.reconcile()
    assert world.condition("Ready") == ("False", "ApplyFailed")
    assert OFF_THE_NETWORK in told(world, "Ready")
    assert world.status["url"] == ""


def test_a_label_off_the_network_that_admission_puts_back_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = running()
    live = world.kube.put(SERVICE, labelled(world.kube.live(SERVICE, KEY.namespace, KEY.name)))

    tried = []

    async def admitted(*_arguments: Any) -> Manifest:
        tried.append(world.seconds)
        return live

    for verb in ("patch", "apply"):
        monkeypatch.setattr(world.kube, verb, admitted)
    for _ in range(2):
        assert world.reconcile() == pytest.approx(FIRST_SECONDS)
        assert world.condition("Ready") == ("False", "Contested")
        assert OFF_THE_NETWORK in told(world, "Ready")
    world.seconds += FIRST_SECONDS
    world.reconcile()
    assert set(tried) == {0.0, FIRST_SECONDS}
