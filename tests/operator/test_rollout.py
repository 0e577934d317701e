from __future__ import annotations

import pytest

from octavo_operator.api.conditions import Reason
from octavo_operator.findings import Finding
from octavo_operator.render import Replacement
from octavo_operator.replicas import Fleet
from octavo_operator.rollout import SURGE_PATIENCE_SECONDS, patience_left, replacement
from tests.support.operator.builders import NOW, after, pod, seen, spec

NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
SURGE = Replacement("RollingUpdate", 1, 0)
IN_PLACE = Replacement("RollingUpdate", 0, 1)


def rolling(*, waiting_for_gpu: bool = True) -> Fleet:
    new = pod("new-1", unschedulable=NO_GPU if waiting_for_gpu else "")
    old = [pod(f"old-{index}", revision="old", ready=True) for index in range(2)]
    return seen([new, *old])


def decided(
    pods: Fleet,
    *,
    replicas: int = 2,
    before: Replacement | None = SURGE,
    refusal: Finding | None = None,
    seconds: float = 0,
    is_replacing: bool = False,
    **rollout: str,
) -> Replacement:
    asked = spec(rollout=rollout, resources={"gpu": 1})
    return replacement(
        asked, before, pods, refusal, replicas, after(seconds), is_replacing=is_replacing
    )


def test_a_rollout_adds_before_it_takes_away() -> None:
    assert decided(rolling(waiting_for_gpu=False)) == SURGE


def test_it_waits_for_a_gpu_for_a_while() -> None:
    assert decided(rolling(), seconds=SURGE_PATIENCE_SECONDS - 1) == SURGE
    assert patience_left(rolling(), None, after(SURGE_PATIENCE_SECONDS - 1)) == 1


def test_and_then_goes_on_in_place() -> None:
    assert decided(rolling(), seconds=SURGE_PATIENCE_SECONDS) == IN_PLACE
    assert patience_left(rolling(), None, after(SURGE_PATIENCE_SECONDS)) is None


def test_once_in_place_it_stays_so_until_no_old_pod_is_left() -> None:
    assert decided(rolling(waiting_for_gpu=False), before=IN_PLACE) == IN_PLACE
    done = seen([pod("new-1", ready=True), pod("new-2", ready=True)])
    assert decided(done, before=IN_PLACE) == SURGE


def test_a_single_replica_is_never_stopped_for_a_pod_that_may_not_start() -> None:
    assert decided(rolling(), replicas=1, seconds=3600) == SURGE


def test_a_start_without_old_pods_is_no_rollout() -> None:
    starting = seen([pod("new-1", unschedulable=NO_GPU)])
    assert decided(starting, seconds=3600) == SURGE


def test_a_restart_of_the_same_revision_is_a_rollout_too() -> None:
    """`kubectl rollout restart` of the Deployment: its pods differ by an annotation alone."""
    old = [pod(f"old-{index}", ready=True) for index in range(2)]
    restarting = seen([*old, pod("new-1", unschedulable=NO_GPU)])
    patience = SURGE_PATIENCE_SECONDS
    assert decided(restarting, seconds=patience - 1, is_replacing=True) == SURGE
    assert decided(restarting, seconds=patience, is_replacing=True) == IN_PLACE
    assert decided(seen(old), before=IN_PLACE, is_replacing=True) == IN_PLACE
    assert decided(seen(old), before=IN_PLACE) == SURGE
    assert decided(restarting, replicas=1, seconds=3600, is_replacing=True) == SURGE


def test_a_chosen_strategy_holds() -> None:
    assert decided(rolling(), seconds=3600, strategy="RollingUpdate") == SURGE
    assert decided(rolling(), strategy="Recreate") == Replacement("Recreate")


@pytest.mark.parametrize(
    "message",
    [
        "0/3 nodes are available: 3 Insufficient cpu.",
        "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint(s).",
        "0/1 nodes are available: 1 Too many pods.",
        "0/1 nodes are available: 1 node(s) exceed max volume count.",
        "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.",
        "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.",
        "0/1 nodes are available: 1 node has pod using a claim with ReadWriteOncePod access mode.",
    ],
)
def test_room_of_whatever_kind_that_does_not_come_free_is_made(message: str) -> None:
    short = seen([pod("new-1", unschedulable=message), pod("old", revision="old", ready=True)])
    assert decided(short, seconds=SURGE_PATIENCE_SECONDS - 1) == SURGE
    assert decided(short, seconds=SURGE_PATIENCE_SECONDS) == IN_PLACE


def test_a_quota_that_allows_no_further_pod_is_a_want_of_room() -> None:
    old = seen([pod(f"old-{index}", revision="old", ready=True) for index in range(2)])
    refusal = Finding(Reason.QUOTA_EXCEEDED, "exceeded quota: pods=2", NOW, is_shortage=True)
    assert decided(old, refusal=refusal, seconds=SURGE_PATIENCE_SECONDS - 1) == SURGE
    assert patience_left(old, refusal, after(SURGE_PATIENCE_SECONDS - 1)) == 1
    assert decided(old, refusal=refusal, seconds=SURGE_PATIENCE_SECONDS) == IN_PLACE


def test_a_place_that_no_node_has_is_not_made_by_stopping_pods() -> None:
    message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    lost = seen([pod("new-1", unschedulable=message), pod("old", revision="old", ready=True)])
    assert decided(lost, seconds=3600) == SURGE
