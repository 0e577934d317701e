"""Claims of the model cache: made, moved away from, taken back."""

from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.claims import GROWTH_PATIENCE_SECONDS
from octavo_operator.kube import KubeError
from octavo_operator.manifest import PERSISTENT_VOLUME_CLAIM, POD, Manifest
from octavo_operator.status import LOSS_PATIENCE_SECONDS
from tests.support.operator.builders import KEY, container
from tests.support.operator.world import World, running


def test_a_cache_that_is_no_longer_wanted_is_removed() -> None:
    world = World(model={"uri": "hf://o/n", "cache": {"size": "5Gi"}})
    world.reconcile()
    assert "PersistentVolumeClaim" in world.kube.kinds()
    world.edit(model={"uri": "hf://o/n"})
    world.reconcile()
    assert "PersistentVolumeClaim" not in world.kube.kinds()


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


def test_the_dying_claim_of_a_draft_is_named_with_its_field() -> None:
    speculative = {"method": "draft_model", "model": {"uri": "pvc://drafts/small"}}
    world = World(engine={"speculative": speculative})
    where = {"name": "drafts", "namespace": KEY.namespace}
    modes = {"accessModes": ["ReadWriteMany"]}
    world.kube.put(PERSISTENT_VOLUME_CLAIM, {"metadata": where, "spec": modes})
    world.reconcile()
    assert "affinity" not in world.deployment["spec"]["template"]["spec"]
    world.kube.run_pods(KEY.namespace, KEY.name)
    dying(world, "drafts")
    world.reconcile()
    assert "spec.engine.speculative.model.uri" in world.status["conditions"][-1]["message"]


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


def with_volume(world: World, *, has: str, asked: str, **status: Any) -> None:
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    claim["spec"]["resources"]["requests"]["storage"] = asked
    claim["status"] = {"phase": "Bound", "capacity": {"storage": has}, **status}


def told(world: World) -> str:
    found: str = next(
        each["message"] for each in world.status["conditions"] if each["type"] == "Degraded"
    )
    return found


def failing_to(error: str, message: str) -> list[dict[str, str]]:
    return [{"type": error, "status": "True", "message": message}]


GROWN = {"uri": "hf://o/n", "cache": {"size": "20Gi"}}


@pytest.mark.parametrize("side", ["Controller", "Node"])
def test_a_size_that_the_driver_cannot_give_is_told_at_once_until_it_is_taken_back(
    side: str,
) -> None:
    world = running(model=GROWN)
    with_volume(
        world,
        has="5Gi",
        asked="20Gi",
        allocatedResourceStatuses={"storage": f"{side}ResizeInfeasible"},
        conditions=failing_to(f"{side}ResizeError", "OutOfRange: at most 10Gi"),
    )
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheResizeFailed")
    assert world.condition("Ready") == ("True", "Serving")
    for part in ("has 5Gi and not the 20Gi of spec.model.cache.size", "at most 10Gi", "above 5Gi"):
        assert part in told(world)
    # The claim goes on asking for it: its request may not be taken back to what the volume has.
    world.edit(model=CACHED)
    world.kube.requests.clear()
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    assert claim["spec"]["resources"]["requests"] == {"storage": "20Gi"}


def test_a_driver_that_fails_and_tries_again_is_told_after_a_patience() -> None:
    world = running(model=GROWN)
    for attempt in range(4):
        error = failing_to("ControllerResizeError", f"Unavailable: try {attempt}")
        with_volume(world, has="5Gi", asked="20Gi", conditions=error)
        assert world.reconcile() == pytest.approx(GROWTH_PATIENCE_SECONDS - world.seconds)
        assert world.condition("Degraded") == ("False", "AsExpected")
        world.seconds += 30
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheResizeFailed")
    assert "tries again (ControllerResizeError: Unavailable: try 3)" in told(world)
    world.restart_operator()
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheResizeFailed")
    with_volume(world, has="20Gi", asked="20Gi")
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_file_system_that_grows_with_the_next_pod_alone_is_told_where_pods_run() -> None:
    world = running(model=GROWN)
    pending = failing_to("FileSystemResizePending", "")
    with_volume(world, has="5Gi", asked="20Gi", conditions=pending)
    world.reconcile()
    world.seconds += GROWTH_PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheResizeFailed")
    assert "kubectl rollout restart" in told(world)
    world.edit(replicas=0)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_class_that_lets_no_volume_grow_is_told_and_hides_nothing_that_is_graver() -> None:
    world = running(model=CACHED)
    with_volume(world, has="5Gi", asked="5Gi")
    answer = (
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
        "support resize"
    )
    refusal = KubeError(403, "Forbidden", f'claims "llama-models" is forbidden: {answer}')
    world.kube.fault = lambda verb, kind, _: (
        refusal if (verb, kind) == ("apply", PERSISTENT_VOLUME_CLAIM) else None
    )
    world.edit(model=GROWN)
    assert world.reconcile() == pytest.approx(30)
    assert world.condition("Degraded") == ("True", "CacheResizeFailed")
    assert "claim llama-models has 5Gi and not the 20Gi" in told(world)
    assert "put the old size back, 5Gi" in told(world)
    assert world.condition("Ready") == ("True", "Serving")
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    failed = {"exitCode": 3, "message": '{"reason": "DownloadFailed", "message": "no route"}'}
    fetching = world.kube.live(POD, KEY.namespace, f"{KEY.name}-0")
    fetching["status"]["initContainerStatuses"] = [container("fetch", ended=failed)]
    world.seconds += LOSS_PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Ready") == ("False", "DownloadFailed")
    world.edit(model=CACHED)
    world.kube.run_pods(KEY.namespace, KEY.name)
    assert world.reconcile() is None
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_volume_that_is_larger_than_the_spec_asks_for_is_told_unless_somebody_enlarged_it() -> (
    None
):
    world = running(model=CACHED)
    with_volume(world, has="20Gi", asked="20Gi")
    world.reconcile()
    assert world.condition("Degraded") == ("True", "CacheImmutable")
    assert "spec.model.cache.size is 5Gi, but claim llama-models has 20Gi" in told(world)
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models")
    sized: Manifest = {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}
    claim["metadata"]["managedFields"].append({"manager": "kubectl-edit", "fieldsV1": sized})
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")


def test_a_claim_that_waits_for_too_large_a_volume_makes_room_for_a_smaller_one() -> None:
    """The request of a claim that is not bound cannot change."""
    world = World(model={"uri": "hf://o/n", "cache": {"size": "5000Gi"}})
    world.reconcile()
    world.edit(model=CACHED)
    world.reconcile()
    assert mounted(world) == "llama-models-2"
    assert claims(world) == ["llama-models-2"]
    # What admission makes of a claim is no reason to make another one.
    claim = world.kube.live(PERSISTENT_VOLUME_CLAIM, KEY.namespace, "llama-models-2")
    claim["spec"]["resources"]["requests"]["storage"] = "10Gi"
    world.reconcile()
    assert claims(world) == ["llama-models-2"]
