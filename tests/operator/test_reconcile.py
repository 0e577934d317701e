from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from octavo_operator import metrics
from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.autoscale.load import ReplicaLoad, Snapshot
from octavo_operator.endpoints import PROPAGATION_SECONDS
from octavo_operator.kube import KubeError
from octavo_operator.manifest import (
    DEPLOYMENT,
    LLM_DEPLOYMENT,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    Manifest,
    ObjectKey,
)
from octavo_operator.reconcile import Reconciler
from octavo_operator.status import LOSS_PATIENCE_SECONDS
from tests.support.operator.builders import INSTALLATION, KEY, NOW, UID, resource
from tests.support.operator.fake_kube import FakeKube


class World:
    """A cluster, an operator and a clock."""

    def __init__(self, *, prometheus: bool = True, **fields: Any) -> None:
        self.kube = FakeKube()
        self.kube.put(LLM_DEPLOYMENT, resource(**fields))
        self.seconds = 0.0
        self.restart_operator(prometheus=prometheus)

    def restart_operator(self, *, prometheus: bool = True) -> None:
        self.autoscaler = Autoscaler(is_configured=prometheus, snapshot_max_age_seconds=60)
        self.reconciler = Reconciler(
            self.kube,
            INSTALLATION,
            self.autoscaler,
            instance="test",
            wall_clock=self.wall_clock,
            steady_clock=lambda: self.seconds,
        )

    def wall_clock(self) -> datetime:
        return datetime.fromtimestamp(NOW.timestamp() + self.seconds, tz=NOW.tzinfo)

    def reconcile(self) -> float | None:
        return asyncio.run(self.reconciler.reconcile(KEY))

    def edit(self, **fields: Any) -> None:
        live = self.resource
        self.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**live["spec"], **fields}})

    def load(self, waiting: float, running: float = 0) -> None:
        names = [name for kind, _, name in self.kube.objects if kind == "Pod"]
        share = ReplicaLoad(waiting / max(1, len(names)), running / max(1, len(names)))
        loads = {ObjectKey(KEY.namespace, name): share for name in names}
        self.autoscaler.snapshot = Snapshot(self.seconds, loads)

    @property
    def resource(self) -> Manifest:
        return self.kube.live(LLM_DEPLOYMENT, KEY.namespace, KEY.name)

    @property
    def deployment(self) -> Manifest:
        return self.kube.live(DEPLOYMENT, KEY.namespace, KEY.name)

    @property
    def status(self) -> Manifest:
        status: Manifest = self.resource["status"]
        return status

    def condition(self, type_: str) -> tuple[str, str]:
        return next(
            (each["status"], each["reason"])
            for each in self.status["conditions"]
            if each["type"] == type_
        )

    def events(self) -> list[str]:
        return [each["reason"] for (kind, *_), each in self.kube.objects.items() if kind == "Event"]


def running(**fields: Any) -> World:
    """A world in which the pods already answer."""
    world = World(**fields)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    return world


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


def test_a_cache_that_is_no_longer_wanted_is_removed() -> None:
    world = World(model={"uri": "hf://o/n", "cache": {"size": "5Gi"}})
    world.reconcile()
    assert "PersistentVolumeClaim" in world.kube.kinds()
    world.edit(model={"uri": "hf://o/n"})
    world.reconcile()
    assert "PersistentVolumeClaim" not in world.kube.kinds()


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


def test_the_object_of_somebody_else_stops_everything_and_is_named() -> None:
    world = World()
    foreign = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "foreign"}}
    world.kube.put(SERVICE_ACCOUNT, foreign)
    assert world.reconcile() is not None
    assert world.condition("Degraded") == ("True", "NameConflict")
    assert world.kube.kinds() == ["LLMDeployment", "ServiceAccount"]
    assert world.kube.live(SERVICE_ACCOUNT, KEY.namespace, KEY.name)["metadata"]["uid"] == "foreign"
    world.kube.remove(SERVICE_ACCOUNT, KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


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


def refused(kind: Any) -> Any:
    refusal = KubeError(403, "Forbidden", "exceeded quota")
    return lambda verb, asked, _name: refusal if (verb, asked) == ("apply", kind) else None


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
    assert world.condition("Degraded") == ("True", "QuotaExceeded")
    world.seconds += 60
    world.reconcile()
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


def test_every_name_that_is_taken_is_named_at_once() -> None:
    world = World()
    for kind in (SERVICE_ACCOUNT, NETWORK_POLICY):
        taken = {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "foreign"}}
        world.kube.put(kind, taken)
    world.reconcile()
    message = world.status["conditions"][-1]["message"]
    assert "ServiceAccount team/llama, NetworkPolicy team/llama exist" in message


CACHED = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}


def claims(world: World) -> list[str]:
    return sorted(name for kind, _, name in world.kube.objects if kind == "PersistentVolumeClaim")


def mounted(world: World) -> str:
    volumes = world.deployment["spec"]["template"]["spec"]["volumes"]
    (found,) = (each for each in volumes if each["name"] == "models")
    name: str = found["persistentVolumeClaim"]["claimName"]
    return name


def dying(world: World, name: str) -> None:
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, name)
    claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def test_pods_that_hold_a_dying_claim_move_to_another_one_and_stay_there() -> None:
    """The claim stays while they mount it, and no new pod may: nothing else would ever end that."""
    world = running(model=CACHED)
    dying(world, "llama-models")
    world.reconcile()
    assert claims(world) == ["llama-models", "llama-models-2"]
    assert mounted(world) == "llama-models-2"
    assert world.condition("Progressing") == ("True", "RollingOut")
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.kube.remove(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    template = world.deployment["spec"]["template"]
    world.restart_operator()
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == []
    assert world.deployment["spec"]["template"] == template
    dying(world, "llama-models-2")
    world.reconcile()
    assert mounted(world) == "llama-models"


def test_a_cache_that_is_taken_away_and_added_again_does_not_wait_for_its_own_pods() -> None:
    world = running(model=CACHED)
    world.edit(model={"uri": "hf://o/n"})
    dying(world, "llama-models")
    world.reconcile()
    world.edit(model=CACHED)
    world.reconcile()
    assert mounted(world) == "llama-models-2"


def test_when_both_names_are_on_their_way_out_it_is_said() -> None:
    world = running(model=CACHED)
    dying(world, "llama-models")
    world.reconcile()
    dying(world, "llama-models-2")
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "ChildTerminating")


def test_a_claim_of_the_user_s_that_is_dying_is_named_while_the_pods_serve() -> None:
    world = World(model={"uri": "pvc://weights/llama"})
    where = {"name": "weights", "namespace": KEY.namespace}
    modes = {"accessModes": ["ReadWriteMany"]}
    world.kube.put(PERSISTENT_VOLUME_CLAIM, {"metadata": where, "spec": modes})
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    dying(world, "weights")
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("True", "VolumeUnavailable")
    assert "claim weights is being deleted" in world.status["conditions"][-1]["message"]


def test_another_class_than_the_volume_has_is_said_and_moves_nothing() -> None:
    world = running(model=CACHED)
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    claim["spec"]["storageClassName"] = "standard"
    claim["status"] = {"phase": "Bound"}
    template = world.deployment["spec"]["template"]
    asked = {"size": "5Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"}
    world.edit(model={"uri": "hf://o/n", "cache": asked})
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheImmutable")
    assert world.condition("Ready") == ("True", "Serving")
    assert world.deployment["spec"]["template"] == template
    live = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    assert live["spec"]["storageClassName"] == "standard"
    assert live["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_a_pause_that_somebody_set_is_lifted() -> None:
    world = running()
    world.deployment["spec"]["paused"] = True
    world.deployment["metadata"]["managedFields"] = [
        {"manager": "kubectl-rollout", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    ]
    world.kube.requests.clear()
    world.reconcile()
    assert ("patch", "Deployment", KEY.name) in world.kube.writes
    assert "paused" not in world.deployment["spec"]


def test_a_repair_that_somebody_else_was_faster_than_is_tried_again_and_told_to_nobody() -> None:
    world = running()
    world.deployment["spec"]["paused"] = True
    world.deployment["metadata"]["managedFields"] = [
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


AUTOSCALED = {
    "autoscaling": {
        "minReplicas": 1,
        "maxReplicas": 4,
        "queueDepth": 4,
        "scaleDownStabilization": "60s",
    }
}


def test_a_queue_adds_replicas_and_an_idle_window_removes_them() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=11)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 3
    assert world.status["desiredReplicas"] == 3
    assert world.status["queue"] == 11
    assert world.condition("Autoscaling") == ("True", "Active")
    assert "Autoscaled" in world.events()
    world.kube.run_pods(KEY.namespace, KEY.name)
    for _ in range(14):
        world.seconds += 5
        world.load(waiting=0)
        world.reconcile()
    assert world.deployment["spec"]["replicas"] == 1


def test_a_restarted_operator_starts_from_the_live_replicas() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=11)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.restart_operator()
    world.seconds += 1000
    world.load(waiting=0)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 3


def test_spec_replicas_have_no_effect_beside_autoscaling() -> None:
    world = running(**AUTOSCALED)
    world.edit(replicas=4)
    world.load(waiting=0)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 1


def test_without_prometheus_s_answer_the_replicas_hold_and_it_is_said() -> None:
    world = running(**AUTOSCALED)
    world.autoscaler.snapshot = Snapshot(0.0, error="http://prometheus: refused")
    world.reconcile()
    assert world.condition("Autoscaling") == ("False", "MetricsUnavailable")
    assert "queue" not in world.status
    assert world.deployment["spec"]["replicas"] == 1


def test_samples_that_stopped_are_said_and_do_not_scale() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=100)
    world.seconds += 61  # the snapshot and its samples are too old by now
    world.reconcile()
    assert world.condition("Autoscaling") == ("False", "MetricsUnavailable")
    assert "llama-0" in world.status["conditions"][3]["message"]
    assert world.deployment["spec"]["replicas"] == 1


def test_a_pod_that_was_not_scraped_yet_is_no_fault() -> None:
    world = running(**AUTOSCALED)
    world.autoscaler.snapshot = Snapshot(0.0)
    world.seconds += 10
    world.reconcile()
    assert world.condition("Autoscaling") == ("True", "Active")


def test_without_prometheus_the_condition_says_so() -> None:
    world = running(prometheus=False, **AUTOSCALED)
    assert world.condition("Autoscaling") == ("False", "PrometheusNotConfigured")


def test_new_bounds_hold_at_once() -> None:
    world = running(**AUTOSCALED)
    world.edit(autoscaling={"minReplicas": 2, "maxReplicas": 3})
    world.autoscaler.snapshot = None
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 2


def test_switching_autoscaling_off_gives_the_replicas_back_to_the_spec() -> None:
    world = running(**AUTOSCALED)
    live = world.resource
    spec = {key: value for key, value in live["spec"].items() if key != "autoscaling"}
    world.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**spec, "replicas": 2}})
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 2
    assert world.condition("Autoscaling") == ("False", "Disabled")
    assert "queue" not in world.status


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
