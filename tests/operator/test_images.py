"""Images: a tag that moved between the starts of replicas is told where users look."""

from __future__ import annotations

from octavo_operator.images import difference
from octavo_operator.manifest import POD
from tests.support.operator.builders import KEY, container, pod, seen
from tests.support.operator.world import World, running

OLD, NEW = (f"registry.example/octavo-runtime@sha256:{each * 64}" for each in "ab")


def runs(world: World, index: int, image: str) -> None:
    found = world.kube.live(POD, KEY.namespace, f"{KEY.name}-{index}")
    found["status"]["containerStatuses"] = [container(running=True) | {"imageID": image}]


def ready_message(world: World) -> str:
    world.reconcile()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Degraded") == ("False", "AsExpected")
    conditions = world.status["conditions"]
    return next(str(each["message"]) for each in conditions if each["type"] == "Ready")


def test_replicas_that_run_different_images_of_one_tag_are_told_with_their_digests() -> None:
    world = running(replicas=3)
    for index in range(3):
        runs(world, index, OLD)
    assert "images" not in ready_message(world)
    runs(world, 2, NEW)
    told = ready_message(world)
    assert f"sha256:{'a' * 64} (llama-0, llama-1); sha256:{'b' * 64} (llama-2)" in told
    assert "spec.runtime.version DIGEST" in told


def test_a_pod_of_another_revision_or_one_that_does_not_answer_runs_what_it_likes() -> None:
    status = [[container(running=True) | {"imageID": each}] for each in (OLD, NEW)]
    first = pod("a", ready=True, statuses=status[0])
    for other in (
        pod("b", ready=True, statuses=status[1], revision="old"),
        pod("b", statuses=status[1]),
        pod("b", ready=True),
    ):
        assert difference(seen([first, other])) == ""
    assert difference(seen([first, pod("b", ready=True, statuses=status[1])]))
