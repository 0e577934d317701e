"""Passes over an object: children, status and conditions, on a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from octavo_operator import metrics
from octavo_operator.kube import KubeError
from octavo_operator.manifest import LLM_DEPLOYMENT, PERSISTENT_VOLUME_CLAIM, POD, SERVICE
from tests.support.operator.builders import KEY, UID, container
from tests.support.operator.world import World, running


def test_a_new_object_gets_its_children_and_a_status() -> None:
    world = World()
    world.reconcile()
    assert world.kube.kinds() == [
        "Deployment",
        "LLMDeployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ]
    assert world.condition("Ready") == ("False", "Starting")
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")


def test_a_pass_without_a_change_writes_nothing() -> None:
    world = running()
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == []


def test_a_restarted_operator_writes_nothing() -> None:
    world = running(autoscaling={"maxReplicas": 4})
    world.load(0)
    world.reconcile()
    world.seconds += 1000
    world.restart_operator()
    world.load(0)
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == []


def test_a_deleted_child_comes_back() -> None:
    world = running()
    world.kube.remove(SERVICE, KEY.namespace, KEY.name)
    world.reconcile()
    assert world.kube.live(SERVICE, KEY.namespace, KEY.name)


def test_an_object_that_is_gone_or_going_is_left_alone() -> None:
    world = running()
    world.resource["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.kube.requests.clear()
    assert world.reconcile() is None
    world.kube.remove(LLM_DEPLOYMENT, KEY.namespace, KEY.name)
    assert world.reconcile() is None
    assert world.kube.writes == []
    assert world.kube.kinds() == ["Pod"]


def test_replicas_change_the_deployment_and_not_its_pods() -> None:
    world = running()
    template = world.deployment["spec"]["template"]
    world.edit(replicas=3)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 3
    assert world.deployment["spec"]["template"] == template
    assert world.condition("Ready") == ("False", "ScalingUp")


def test_a_changed_engine_is_not_ready_until_its_own_pods_answer() -> None:
    world = running()
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    assert world.condition("Ready") == ("False", "RollingOut")
    assert world.status["readyReplicas"] == 1
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["observedGeneration"] == 2


def test_a_spec_that_cannot_be_read_is_said_and_touches_no_child() -> None:
    world = running()
    world.edit(engine={"maxNumSeqs": "many"})
    world.kube.requests.clear()
    assert world.reconcile() is None
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    message = world.status["conditions"][0]["message"]
    assert "spec.engine.maxNumSeqs" in message
    assert "'many'" in message
    assert {write[1] for write in world.kube.writes} == {"LLMDeployment", "Event"}


def test_an_image_that_the_installation_does_not_allow_is_said_and_what_ran_goes_on() -> None:
    world = running()
    template = world.deployment["spec"]["template"]
    world.edit(runtime={"image": "elsewhere.example/r:1"})
    world.reconcile()
    assert world.condition("Degraded") == ("True", "ImageNotAllowed")
    assert world.condition("Stalled") == ("True", "ImageNotAllowed")
    assert world.deployment["spec"]["template"] == template
    assert world.status["readyReplicas"] == 1
    world.edit(runtime={"version": "2"})
    world.reconcile()
    (container,) = world.deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/octavo-runtime:2"
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_children_that_were_orphaned_are_adopted() -> None:
    world = running()
    for (kind, *_), child in world.kube.objects.items():
        if kind not in ("LLMDeployment", "Pod", "EndpointSlice", "Event"):
            child["metadata"]["ownerReferences"] = []
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
    for (kind, *_), child in world.kube.objects.items():
        if kind not in ("LLMDeployment", "Pod", "EndpointSlice", "Event"):
            assert child["metadata"]["ownerReferences"][0]["uid"] == UID


def test_labels_of_a_platform_stand_on_all_that_is_made_and_ours_stay() -> None:
    """A namespace's rules may ask for them on every object, and refuse what has none. Kubernetes' own stay on
    pods: on a Service this one keeps every node from serving it."""
    proxied = "service.kubernetes.io/service-proxy-name"
    world = running(
        pods={"labels": {"cost-center": "42", proxied: "x"}},
        model={"uri": "hf://o/n", "cache": {"size": "5Gi"}},
    )
    made = [each for (kind, *_), each in world.kube.objects.items() if kind in world.kube.kinds()]
    children = [
        each for each in made if "octavo.dev/llmdeployment" in each["metadata"].get("labels", {})
    ]
    assert {each["kind"] for each in children} >= {"Deployment", "Service", "PersistentVolumeClaim"}
    assert {each["metadata"]["labels"]["cost-center"] for each in children} == {"42"}
    assert {each["kind"] for each in children if proxied in each["metadata"]["labels"]} == {"Pod"}


def test_what_has_gone_unseen_is_known_until_it_is_looked_at() -> None:
    """A watch that broke off tells of no end, and what is remembered of an object would stay."""
    world = running()
    assert world.reconciler.known == {KEY}
    world.kube.remove(LLM_DEPLOYMENT, KEY.namespace, KEY.name)
    world.reconcile()
    assert world.reconciler.known == set()


def test_a_pause_that_somebody_set_is_lifted() -> None:
    world = running()
    world.deployment["spec"]["paused"] = True
    world.deployment["metadata"]["managedFields"] += [
        {"manager": "kubectl-rollout", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    ]
    world.kube.requests.clear()
    world.reconcile()
    assert ("patch", "Deployment", KEY.name) in world.kube.writes
    assert "paused" not in world.deployment["spec"]


def test_a_claim_of_one_node_places_the_pods_and_one_of_many_does_not() -> None:
    world = World(model={"uri": "pvc://weights/llama"})
    world.reconcile()
    waiting = world.deployment["spec"]["template"]
    where = {"name": "weights", "namespace": KEY.namespace}
    world.kube.put(
        PERSISTENT_VOLUME_CLAIM, {"metadata": where, "spec": {"accessModes": ["ReadWriteOnce"]}}
    )
    world.reconcile()
    assert world.deployment["spec"]["template"] == waiting
    assert "podAffinity" in waiting["spec"]["affinity"]
    world.kube.put(
        PERSISTENT_VOLUME_CLAIM, {"metadata": where, "spec": {"accessModes": ["ReadWriteMany"]}}
    )
    world.reconcile()
    assert "affinity" not in world.deployment["spec"]["template"]["spec"]
    assert "delete" not in {verb for verb, _, _ in world.kube.writes}


def test_a_pod_that_its_node_does_not_set_up_is_said_without_any_event() -> None:
    world = World()
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    stuck = world.kube.live(POD, KEY.namespace, f"{KEY.name}-0")
    stuck["status"]["conditions"].append(
        {
            "type": "PodReadyToStartContainers",
            "status": "False",
            "lastTransitionTime": "2026-05-04T12:00:00Z",
        }
    )
    assert world.reconcile() == pytest.approx(20)
    assert world.condition("Degraded") == ("False", "AsExpected")
    world.seconds += 20
    assert world.reconcile() is None
    assert world.condition("Degraded") == ("True", "SandboxUnavailable")


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
def test_a_passing_fault_fails_the_pass_so_that_it_is_tried_again(status: int) -> None:
    world = World()
    fault = KubeError(status, "", "later")
    world.kube.fault = lambda verb, _kind, _name: fault if verb == "apply" else None
    with pytest.raises(KubeError, match="later"):
        world.reconcile()


def test_a_field_without_effect_is_named_where_ready_is_told_and_nothing_else_comes_of_it() -> None:
    engine = {"device": "cpu", "gpuMemoryUtilization": "0.9"}
    world = running(engine=engine, resources={"gpu": 1}, model={"uri": "builtin://demo"})
    (ready,) = [each for each in world.status["conditions"] if each["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("True", "Serving")
    assert "spec.engine.gpuMemoryUtilization" in ready["message"]
    assert "spec.resources.gpu is held and not used" in ready["message"]
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_stored_field_with_which_no_pod_starts_is_named_beside_what_the_pod_says() -> None:
    world = World(engine={"maxLoras": 8})
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    refusal = (
        '{"reason": "InvalidConfiguration", "message": "max_loras is 8 and enable_lora is off"}'
    )
    ended = {"exitCode": 2, "message": refusal}
    live = world.kube.live(POD, KEY.namespace, f"{KEY.name}-0")
    live["status"]["containerStatuses"] = [container(ended=ended)]
    world.kube.put(POD, live)
    world.reconcile()
    (ready,) = [each for each in world.status["conditions"] if each["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidConfiguration")
    assert "max_loras is 8" in ready["message"]
    assert (
        "without spec.engine.enableLora nothing follows from spec.engine.maxLoras"
        in ready["message"]
    )


def test_an_event_that_cannot_be_written_fails_nothing() -> None:
    world = World()
    refusal = KubeError(403, "Forbidden", "no events")
    world.kube.fault = lambda verb, kind, _: refusal if kind.kind == "Event" else None
    world.reconcile()
    assert world.condition("Ready") == ("False", "Starting")


def test_a_status_never_lands_on_another_object_of_the_same_name() -> None:
    world = World()
    world.reconcile()
    world.edit(replicas=2)

    def swap(verb: str, kind: Any, _name: str) -> None:
        if verb == "status":
            world.resource["metadata"]["uid"] = "another"

    world.kube.fault = swap
    before = dict(world.status)
    world.reconcile()
    assert world.status == before


def test_the_conditions_are_metrics_while_the_object_is_there() -> None:
    def value(type_: str, status: str) -> float | None:
        labels = {"namespace": KEY.namespace, "name": KEY.name, "type": type_, "status": status}
        return metrics.REGISTRY.get_sample_value("octavo_operator_llmdeployment_condition", labels)

    world = World()
    world.reconcile()
    assert (value("Ready", "True"), value("Ready", "False")) == (0, 1)
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    assert (value("Ready", "True"), value("Ready", "False")) == (1, 0)
    world.kube.remove(LLM_DEPLOYMENT, KEY.namespace, KEY.name)
    world.reconcile()
    world.reconcile()
    assert value("Ready", "True") is None
