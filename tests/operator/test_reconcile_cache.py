"""Claims of the model cache: made, moved away from, taken back."""

from __future__ import annotations

import pytest

from octavo_operator.manifest import PERSISTENT_VOLUME_CLAIM
from tests.support.operator.builders import KEY
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
