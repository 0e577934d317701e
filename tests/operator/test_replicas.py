from __future__ import annotations

from octavo_operator.api.conditions import Reason
from octavo_operator.pods import SETUP_PATIENCE_SECONDS, view
from octavo_operator.replicas import Replica, fleet, setup_patience_left
from tests.support.operator.builders import NOW, after, container, pod, seen

GPU = "nvidia.com/gpu"


def replica(*pods: dict[str, object], size: int) -> Replica:
    return Replica("llama-0", tuple(view(each, GPU, NOW) for each in pods), size)


def test_a_group_answers_when_all_of_it_is_there_and_ready() -> None:
    leader, worker = pod("a", ready=True), pod("b", ready=True)
    assert replica(leader, worker, size=2).is_ready
    assert not replica(leader, size=2).is_ready
    assert not replica(leader, pod("b"), size=2).is_ready
    assert not replica(pod("a"), worker, size=2).is_ready


def test_a_group_answers_since_its_last_pod_did() -> None:
    first, last = pod("a", ready=True), pod("b", ready=True, since=after(30))
    assert replica(first, last, size=2).ready_since == after(30)
    assert replica(first, size=2).ready_since is None


def test_a_group_of_two_revisions_is_of_none() -> None:
    mixed = replica(pod("a", revision="new"), pod("b", revision="old"), size=2)
    assert mixed.revision == ""
    assert fleet("new", [mixed]).current == ()


def test_the_gravest_finding_among_a_group_s_pods_is_the_group_s() -> None:
    unscheduled = pod("a", unschedulable="0/1 nodes are available: 1 Insufficient cpu.")
    unpulled = pod("b", statuses=[container(waiting=("ErrImagePull", "no"))])
    found = replica(unscheduled, unpulled, size=2).finding()
    assert found is not None
    assert found.reason is Reason.IMAGE_PULL_FAILED


def test_the_gravest_finding_of_the_revision_in_force_wins() -> None:
    pods = [
        pod("a", unschedulable="0/1 nodes are available: 1 Insufficient cpu."),
        pod("b", statuses=[container(waiting=("ErrImagePull", "no"))]),
        pod("c", revision="old", statuses=[container(ended={"exitCode": 1})]),
    ]
    found = seen(pods).finding()
    assert found is not None
    assert found.reason is Reason.IMAGE_PULL_FAILED
    assert seen(pods, "newer").finding() is None


def test_what_the_pods_are_doing_is_said_of_those_that_are_not_ready() -> None:
    assert seen([pod("a"), pod("b", ready=True)]).phase_text() == "loading the model"
    assert seen([]).phase_text() == "waiting for pods to be created"


def test_a_pod_that_is_being_set_up_is_looked_at_again_in_time() -> None:
    setting_up = seen([pod(setting_up=True)])
    assert setup_patience_left(setting_up, after(SETUP_PATIENCE_SECONDS - 5)) == 5
    assert setup_patience_left(setting_up, after(SETUP_PATIENCE_SECONDS)) is None
    assert setup_patience_left(seen([pod()]), NOW) is None
