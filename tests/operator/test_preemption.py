"""What is said of pods that the scheduler takes away for others of a higher priority."""

from __future__ import annotations

from octavo_operator import preemption
from octavo_operator.manifest import POD, Manifest
from octavo_operator.pods import PodView, view
from tests.support.operator.builders import KEY, NOW, pod
from tests.support.operator.world import running

NO_ROOM = "0/1 nodes are available: 1 Insufficient cpu."


def taken(live: Manifest) -> Manifest:
    """As the scheduler leaves a pod that makes room, until it has drained."""
    live["metadata"]["deletionTimestamp"] = "2026-05-04T12:05:00Z"
    live["status"]["conditions"].append(
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    )
    return live


def ranked(live: Manifest, priority: int) -> PodView:
    live["spec"]["priority"] = priority
    return view(live, "nvidia.com/gpu", NOW)


def test_a_raised_priority_that_takes_the_models_own_room_is_told() -> None:
    leaving = ranked(taken(pod("old-1", revision="old", ready=True)), 0)
    again = ranked(pod("old-2", revision="old", unschedulable=NO_ROOM), 0)
    serving = ranked(pod("old-3", revision="old", ready=True), 0)
    coming = ranked(pod("new-1"), 1000)
    said = preemption.remark([leaving, again, serving, coming], "new")
    assert "(1000) than those of the former (0)" in said
    assert said.endswith(": old-1, old-2")
    assert preemption.remark([serving, coming], "new") == ""


def test_room_that_is_missing_for_all_is_nobodys_priority() -> None:
    waiting = ranked(pod("old-2", revision="old", unschedulable=NO_ROOM), 7)
    assert preemption.remark([waiting, ranked(pod("new-1"), 7)], "new") == ""
    assert preemption.remark([waiting], "new") == ""


def test_pods_that_others_took_the_room_of_are_named() -> None:
    said = preemption.remark(
        [ranked(taken(pod("a-1", ready=True)), 0), ranked(pod("a-2"), 0)], "new"
    )
    assert said == "the scheduler took away for pods of a higher priority: a-1"


def test_the_status_says_who_took_the_only_replicas_room() -> None:
    world = running()
    world.edit(scheduling={"priorityClassName": "high"})
    world.reconcile()
    revision = world.deployment["spec"]["template"]["metadata"]["labels"]["octavo.dev/revision"]
    taken(world.kube.live(POD, KEY.namespace, "llama-0"))
    coming = pod("llama-9", revision=revision)
    coming["spec"]["priority"] = 1000
    coming["metadata"]["ownerReferences"][0]["name"] = f"llama-{revision}"
    world.kube.put(POD, coming)
    world.reconcile()
    (ready,) = (each for each in world.status["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "False"
    assert ready["message"].endswith("and take their room as there is no other: llama-0")
